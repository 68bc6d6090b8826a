"""English names of languages, as APIs that list languages show them."""

from __future__ import annotations

# ISO 639 codes with the names of CLDR, the Unicode locale data.
_NAMES = dict(
    line.split(maxsplit=1)
    for line in """
af Afrikaans
am Amharic
an Aragonese
ar Arabic
as Assamese
az Azerbaijani
be Belarusian
bg Bulgarian
bn Bangla
br Breton
bs Bosnian
ca Catalan
cs Czech
cy Welsh
da Danish
de German
dz Dzongkha
el Greek
en English
eo Esperanto
es Spanish
et Estonian
eu Basque
fa Persian
fi Finnish
fo Faroese
fr French
ga Irish
gl Galician
gu Gujarati
ha Hausa
he Hebrew
hi Hindi
hr Croatian
ht Haitian Creole
hu Hungarian
hy Armenian
id Indonesian
ig Igbo
is Icelandic
it Italian
ja Japanese
jv Javanese
ka Georgian
kk Kazakh
km Khmer
kn Kannada
ko Korean
ku Kurdish
ky Kyrgyz
la Latin
lb Luxembourgish
lo Lao
lt Lithuanian
lv Latvian
mg Malagasy
mk Macedonian
ml Malayalam
mn Mongolian
mr Marathi
ms Malay
mt Maltese
my Burmese
nb Norwegian Bokmål
ne Nepali
nl Dutch
nn Norwegian Nynorsk
no Norwegian
oc Occitan
or Odia
pa Punjabi
pl Polish
ps Pashto
pt Portuguese
qu Quechua
ro Romanian
ru Russian
rw Kinyarwanda
se Northern Sami
si Sinhala
sk Slovak
sl Slovenian
so Somali
sq Albanian
sr Serbian
sv Swedish
sw Swahili
ta Tamil
te Telugu
th Thai
tl Tagalog
tr Turkish
ug Uyghur
uk Ukrainian
ur Urdu
uz Uzbek
vi Vietnamese
vo Volapük
wa Walloon
xh Xhosa
yo Yoruba
zh Chinese
zu Zulu
""".strip().splitlines()
)


def english_name(tag: str) -> str:
    """Return the name of a BCP-47 tag, with all but its language in brackets; a tag without a name is its own."""
    language, _, rest = tag.partition("-")
    name = _NAMES.get(language.lower())
    if name is None:
        return tag
    return f"{name} ({rest})" if rest else name
