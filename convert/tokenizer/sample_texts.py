"""The texts by which tokenizers are distinguished and compared. Knows no tokenizer."""

from __future__ import annotations

# Each line is here for something a tokenizer may do differently: contractions in both
# cases, digits in runs of every length, spaces and newlines in runs and at both ends,
# more than thirty scripts with and without spaces, marks that follow their letter,
# joined emoji, code, and characters that are control, separator or unassigned.
SAMPLE_TEXTS: tuple[str, ...] = (
    "The quick brown fox doesn't jump; it'll wait.  Two  spaces,   three, and a trailing one ",
    "I'M SURE they'Ve said: \"1234567890 + 3.14159 = 2024-11-22\"\n\n\n\ttabs\tand\r\nnewlines\n",
    "7 42 365 1024 65536 123456 9876543 $1,000,000.00 v1.2.3 3rd 0x1F ٣٤٥ २०२४ ½ ² Ⅷ ①②",
    "Hello!!! (yes) [no] {x} <tag/> ... -- --- ___ ***bold*** /path/to/file.txt\n  - "
    "item\n\n    indented\n\n\n\n",
    "mixed123abc 12ab34 x²y³ __init__ C++ a.b.c http://example.org/?q=1&r=%20 ~`@#$^*()_+-=|\\<>",
    "camelCase HTTPServer iPhone McDonald ALLCAPS aB Ab aBC 'S 's don’t “quoted” ‘single’ "
    "«guillemets»",
    "def f(x):\n    return {'a': x[0]**2, \"b\": [i for i in range(10)]}  # comment\n\t\tif "
    "x != y: pass",
    "Привет, мир! Ещё — «кавычки» и камелРегистр. Καλημέρα κόσμε. שלום עולם. مرحبا بالعالم، "
    "كيف حالك؟ فارسی",
    "日本語のテキストです。漢字とカタカナ、ひらがな。"
    "中文字符，標點！全角ＡＢＣ１２３ 한국어 문장입니다.",
    "हिन्दी में देवनागरी लिपि। বাংলা ভাষা தமிழ் ภาษาไทยไม่มีวรรค ქართული Հայերեն አማርኛ ខ្មែរ",
    "తెలుగు లిపి ಕನ್ನಡ ಭಾಷೆ മലയാളം ગુજરાતી ਪੰਜਾਬੀ ଓଡ଼ିଆ සිංහල ພາສາລາວ မြန်မာစာ བོད་སྐད་",
    "ᠮᠣᠩᠭᠣᠯ ᏣᎳᎩ ܣܘܪܝܝܐ ދިވެހި ߒߞߏ ᐃᓄᒃᑎᑐᑦ ꆈꌠ ꦧꦱꦗꦮ ㄅㄆㄇ ⵜⵉⴼⵉⵏⴰⵖ",
    "x\u0303 q\u0307\u0323 s\u0336t\u0336r\u0336 a\u20dd מְנֻקָּד مُشَكَّل Tiếng Việt naïve "
    "café Straße œuvre İstanbul ǅ ﬁ",
    "emoji 👩‍👩‍👧‍👦🏳️‍🌈 👍🏽 🇪🇺 ☃️ ♥ ∑∫√ → ⇒ € £ ¥ \u00a0nbsp\u2003em\u3000wide\u200bzero\u00adsoft",
    "runs" + 5 * " " + "of" + 8 * " " + "spaces" + 17 * " " + "."
    + 3 * "\n" + "lines" + 6 * "\n" + 3 * "\t" + 9 * "-",
    " leading", "  two leading",
    "\n", "\n\n", " \n ", "\r\n", "\t", " ", "  ", "    ", "a", "1", "", "…",
    "\ufeff", "\x07\x7f",
)  # fmt: skip
