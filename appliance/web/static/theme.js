/* Light or dark, set before anything is painted. Knows nothing else of the page. */
"use strict";
{
  const chosen = localStorage.getItem("appliance.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
