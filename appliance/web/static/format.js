/* Numbers for people. Knows no view. */

const GIB = 2 ** 30;
const MIB = 2 ** 20;

export function bytes(count) {
  if (count >= GIB) return `${(count / GIB).toFixed(2)} GiB`;
  return `${(count / MIB).toFixed(count < 10 * MIB ? 1 : 0)} MiB`;
}

/** Of a duration in seconds; a dash of none. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

/** Of a moment in seconds since the epoch, how long it is past. */
export function ago(at) {
  const seconds = Math.max(0, Date.now() / 1000 - at);
  return seconds < 60 ? "just now" : `${duration(seconds)} ago`;
}

/** Of a moment in seconds since the epoch, its date in UTC. */
export function day(at) {
  return new Date(at * 1000).toISOString().slice(0, 10);
}

export function share(value) {
  return value === null || value === undefined ? "–" : `${(value * 100).toFixed(0)} %`;
}

export function count(value) {
  return value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
}
