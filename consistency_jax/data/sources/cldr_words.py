"""The words of the embedded world: six nouns in thirty languages, and the colon-like templates that they fill.

CLDR gives names in the nominative only, so the sentences are labels, not clauses: "City: Nairobi — Country: Kenya" is
right in every language without declining anything.
"""

# what a name is the name of, in the order of WORDS
KINDS = ("city", "country", "official", "currency", "language", "script")

COLON, DASH = ": ", " — "
STYLES = {"labels": DASH, "lines": "\n"}  # what stands between what is known and what is asked

# language -> city, country, official language, currency, language, script
WORDS: dict[str, tuple[str, ...]] = {
    "en": ("City", "Country", "Official language", "Currency", "Language", "Script"),
    "es": ("Ciudad", "País", "Idioma oficial", "Moneda", "Idioma", "Escritura"),
    "fr": ("Ville", "Pays", "Langue officielle", "Monnaie", "Langue", "Écriture"),
    "de": ("Stadt", "Land", "Amtssprache", "Währung", "Sprache", "Schrift"),
    "it": ("Città", "Paese", "Lingua ufficiale", "Valuta", "Lingua", "Scrittura"),
    "pt": ("Cidade", "País", "Língua oficial", "Moeda", "Idioma", "Escrita"),
    "nl": ("Stad", "Land", "Officiële taal", "Munteenheid", "Taal", "Schrift"),
    "sv": ("Stad", "Land", "Officiellt språk", "Valuta", "Språk", "Skrift"),
    "pl": ("Miasto", "Kraj", "Język urzędowy", "Waluta", "Język", "Pismo"),
    "cs": ("Město", "Země", "Úřední jazyk", "Měna", "Jazyk", "Písmo"),
    "ro": ("Oraș", "Țară", "Limbă oficială", "Monedă", "Limbă", "Scriere"),
    "hu": ("Város", "Ország", "Hivatalos nyelv", "Pénznem", "Nyelv", "Írásrendszer"),
    "fi": ("Kaupunki", "Maa", "Virallinen kieli", "Valuutta", "Kieli", "Kirjoitusjärjestelmä"),
    "el": ("Πόλη", "Χώρα", "Επίσημη γλώσσα", "Νόμισμα", "Γλώσσα", "Γραφή"),
    "ru": ("Город", "Страна", "Официальный язык", "Валюта", "Язык", "Письменность"),
    "uk": ("Місто", "Країна", "Офіційна мова", "Валюта", "Мова", "Писемність"),
    "tr": ("Şehir", "Ülke", "Resmî dil", "Para birimi", "Dil", "Yazı"),
    "ar": ("المدينة", "البلد", "اللغة الرسمية", "العملة", "اللغة", "نظام الكتابة"),
    "he": ("עיר", "מדינה", "שפה רשמית", "מטבע", "שפה", "כתב"),
    "fa": ("شهر", "کشور", "زبان رسمی", "واحد پول", "زبان", "خط"),
    "hi": ("शहर", "देश", "आधिकारिक भाषा", "मुद्रा", "भाषा", "लिपि"),
    "bn": ("শহর", "দেশ", "সরকারি ভাষা", "মুদ্রা", "ভাষা", "লিপি"),
    "ta": ("நகரம்", "நாடு", "ஆட்சி மொழி", "நாணயம்", "மொழி", "எழுத்து முறை"),
    "th": ("เมือง", "ประเทศ", "ภาษาราชการ", "สกุลเงิน", "ภาษา", "อักษร"),
    "vi": ("Thành phố", "Quốc gia", "Ngôn ngữ chính thức", "Tiền tệ", "Ngôn ngữ", "Chữ viết"),
    "id": ("Kota", "Negara", "Bahasa resmi", "Mata uang", "Bahasa", "Aksara"),
    "sw": ("Mji", "Nchi", "Lugha rasmi", "Sarafu", "Lugha", "Mwandiko"),
    "zh": ("城市", "国家", "官方语言", "货币", "语言", "文字"),
    "ja": ("都市", "国", "公用語", "通貨", "言語", "文字体系"),
    "ko": ("도시", "국가", "공용어", "통화", "언어", "문자"),
}


def label(language: str, kind: str, name: str) -> str:
    """ "City: Nairobi" in that language."""
    return WORDS[language][KINDS.index(kind)] + COLON + name


def question(language: str, subject_kind: str, subject: str, answer_kind: str, style: str = "labels") -> str:
    """ "City: Nairobi — Country:" in that language, or on two lines; the answer goes on with a space."""
    asked = WORDS[language][KINDS.index(answer_kind)]
    return label(language, subject_kind, subject) + STYLES[style] + asked + COLON.rstrip()
