"""The words of the embedded world: nouns and questions in thirty languages, and the templates that they fill.

CLDR gives names in the nominative only, so a name stands behind a colon, never in a clause: "City: Nairobi — Country:
Kenya" is right in every language without declining anything. A question refers to it by a pronoun.
"""

# what a name is the name of, in the order of WORDS
KINDS = ("city", "country", "official", "currency", "language", "script")

COLON, DASH = ": ", " — "

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

STYLES = ("labels", "questions")
# language -> the country of a city, the currency, the official language, the country of a language, its script; Answer
QUESTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "In which country is it?",
        "Which currency is used there?",
        "What is the official language there?",
        "In which country is it mostly spoken?",
        "In which script is it written?",
        "Answer",
    ),
    "es": (
        "¿En qué país está?",
        "¿Qué moneda se usa allí?",
        "¿Cuál es el idioma oficial allí?",
        "¿En qué país se habla sobre todo?",
        "¿Con qué escritura se escribe?",
        "Respuesta",
    ),
    "fr": (
        "Dans quel pays se trouve-t-elle ?",
        "Quelle monnaie y utilise-t-on ?",
        "Quelle y est la langue officielle ?",
        "Dans quel pays est-elle surtout parlée ?",
        "Dans quelle écriture s'écrit-elle ?",
        "Réponse",
    ),
    "de": (
        "In welchem Land liegt sie?",
        "Welche Währung gilt dort?",
        "Was ist dort die Amtssprache?",
        "In welchem Land wird sie hauptsächlich gesprochen?",
        "In welcher Schrift wird sie geschrieben?",
        "Antwort",
    ),
    "it": (
        "In quale paese si trova?",
        "Quale valuta si usa lì?",
        "Qual è lì la lingua ufficiale?",
        "In quale paese si parla principalmente?",
        "Con quale scrittura si scrive?",
        "Risposta",
    ),
    "pt": (
        "Em que país fica?",
        "Que moeda se usa lá?",
        "Qual é a língua oficial lá?",
        "Em que país é mais falado?",
        "Com que escrita se escreve?",
        "Resposta",
    ),
    "nl": (
        "In welk land ligt deze stad?",
        "Welke munteenheid wordt daar gebruikt?",
        "Wat is daar de officiële taal?",
        "In welk land wordt deze taal vooral gesproken?",
        "In welk schrift wordt deze taal geschreven?",
        "Antwoord",
    ),
    "sv": (
        "I vilket land ligger den?",
        "Vilken valuta används där?",
        "Vilket är det officiella språket där?",
        "I vilket land talas det främst?",
        "Med vilken skrift skrivs det?",
        "Svar",
    ),
    "pl": (
        "W jakim kraju leży?",
        "Jakiej waluty się tam używa?",
        "Jaki jest tam język urzędowy?",
        "W jakim kraju głównie się nim mówi?",
        "Jakim pismem jest zapisywany?",
        "Odpowiedź",
    ),
    "cs": (
        "Ve které zemi leží?",
        "Jaká měna se tam používá?",
        "Jaký je tam úřední jazyk?",
        "Ve které zemi se jím hlavně mluví?",
        "Jakým písmem se píše?",
        "Odpověď",
    ),
    "ro": (
        "În ce țară se află?",
        "Ce monedă se folosește acolo?",
        "Care este limba oficială acolo?",
        "În ce țară se vorbește cel mai mult?",
        "Cu ce scriere se scrie?",
        "Răspuns",
    ),
    "hu": (
        "Melyik országban van?",
        "Milyen pénznemet használnak ott?",
        "Mi ott a hivatalos nyelv?",
        "Melyik országban beszélik leginkább?",
        "Milyen írásrendszerrel írják?",
        "Válasz",
    ),
    "fi": (
        "Missä maassa se sijaitsee?",
        "Mitä valuuttaa siellä käytetään?",
        "Mikä on siellä virallinen kieli?",
        "Missä maassa sitä puhutaan eniten?",
        "Millä kirjoitusjärjestelmällä sitä kirjoitetaan?",
        "Vastaus",
    ),
    "el": (
        "Σε ποια χώρα βρίσκεται;",
        "Ποιο νόμισμα χρησιμοποιείται εκεί;",
        "Ποια είναι εκεί η επίσημη γλώσσα;",
        "Σε ποια χώρα μιλιέται κυρίως;",
        "Με ποια γραφή γράφεται;",
        "Απάντηση",
    ),
    "ru": (
        "В какой стране он находится?",
        "Какая валюта там используется?",
        "Какой там официальный язык?",
        "В какой стране на нём в основном говорят?",
        "Какая у него письменность?",
        "Ответ",
    ),
    "uk": (
        "У якій країні воно розташоване?",
        "Яка валюта там використовується?",
        "Яка там офіційна мова?",
        "У якій країні нею переважно розмовляють?",
        "Яка в неї писемність?",
        "Відповідь",
    ),
    "tr": (
        "Hangi ülkededir?",
        "Orada hangi para birimi kullanılır?",
        "Oranın resmî dili nedir?",
        "En çok hangi ülkede konuşulur?",
        "Hangi yazıyla yazılır?",
        "Cevap",
    ),
    "ar": (
        "في أي بلد تقع؟",
        "ما العملة المستخدمة هناك؟",
        "ما اللغة الرسمية هناك؟",
        "في أي بلد يُتحدث بها أساسًا؟",
        "بأي نظام كتابة تُكتب؟",
        "الإجابة",
    ),
    "he": (
        "באיזו מדינה היא נמצאת?",
        "באיזה מטבע משתמשים שם?",
        "מהי השפה הרשמית שם?",
        "באיזו מדינה מדברים בה בעיקר?",
        "באיזה כתב היא נכתבת?",
        "תשובה",
    ),
    "fa": (
        "در کدام کشور قرار دارد؟",
        "واحد پول آنجا چیست؟",
        "زبان رسمی آنجا چیست؟",
        "بیشتر در کدام کشور به آن صحبت می‌شود؟",
        "با چه خطی نوشته می‌شود؟",
        "پاسخ",
    ),
    "hi": (
        "यह किस देश में है?",
        "वहाँ कौन-सी मुद्रा चलती है?",
        "वहाँ की आधिकारिक भाषा क्या है?",
        "यह मुख्य रूप से किस देश में बोली जाती है?",
        "यह किस लिपि में लिखी जाती है?",
        "उत्तर",
    ),
    "bn": (
        "এটি কোন দেশে অবস্থিত?",
        "সেখানে কোন মুদ্রা ব্যবহৃত হয়?",
        "সেখানকার সরকারি ভাষা কী?",
        "এই ভাষায় প্রধানত কোন দেশে কথা বলা হয়?",
        "এটি কোন লিপিতে লেখা হয়?",
        "উত্তর",
    ),
    "ta": (
        "இது எந்த நாட்டில் உள்ளது?",
        "அங்கு எந்த நாணயம் பயன்படுத்தப்படுகிறது?",
        "அங்கு ஆட்சி மொழி எது?",
        "இது முக்கியமாக எந்த நாட்டில் பேசப்படுகிறது?",
        "இது எந்த எழுத்து முறையில் எழுதப்படுகிறது?",
        "பதில்",
    ),
    "th": (
        "อยู่ในประเทศใด?",
        "ที่นั่นใช้สกุลเงินใด?",
        "ภาษาราชการของที่นั่นคือภาษาใด?",
        "ใช้พูดกันมากที่สุดในประเทศใด?",
        "เขียนด้วยอักษรใด?",
        "คำตอบ",
    ),
    "vi": (
        "Thành phố này thuộc quốc gia nào?",
        "Ở đó dùng tiền tệ nào?",
        "Ngôn ngữ chính thức ở đó là gì?",
        "Ngôn ngữ này được nói chủ yếu ở quốc gia nào?",
        "Ngôn ngữ này dùng chữ viết nào?",
        "Trả lời",
    ),
    "id": (
        "Kota ini terletak di negara mana?",
        "Mata uang apa yang digunakan di sana?",
        "Apa bahasa resmi di sana?",
        "Bahasa ini terutama dituturkan di negara mana?",
        "Bahasa ini ditulis dengan aksara apa?",
        "Jawaban",
    ),
    "sw": (
        "Uko katika nchi gani?",
        "Sarafu gani inatumika huko?",
        "Lugha rasmi ya huko ni ipi?",
        "Inazungumzwa zaidi katika nchi gani?",
        "Inaandikwa kwa mwandiko gani?",
        "Jibu",
    ),
    "zh": (
        "它位于哪个国家？",
        "那里使用什么货币？",
        "那里的官方语言是什么？",
        "它主要在哪个国家使用？",
        "它用什么文字书写？",
        "答案",
    ),
    "ja": (
        "どの国にありますか。",
        "そこで使われている通貨は何ですか。",
        "そこの公用語は何ですか。",
        "主にどの国で話されていますか。",
        "どの文字体系で書かれますか。",
        "答え",
    ),
    "ko": (
        "어느 나라에 있습니까?",
        "그곳에서 쓰는 통화는 무엇입니까?",
        "그곳의 공용어는 무엇입니까?",
        "주로 어느 나라에서 쓰입니까?",
        "어떤 문자로 씁니까?",
        "답",
    ),
}


def label(language: str, kind: str, name: str) -> str:
    """ "City: Nairobi" in that language."""
    return WORDS[language][KINDS.index(kind)] + COLON + name


def question(language: str, subject_kind: str, subject: str, answer_kind: str, style: str = "labels") -> str:
    """ "City: Nairobi — Country:" in that language; as "questions" the lines "City: Nairobi", "In which country is it?"
    and "Answer:". The answer goes on with a space."""
    named = label(language, subject_kind, subject)
    if style == "labels":
        return named + DASH + WORDS[language][KINDS.index(answer_kind)] + COLON.rstrip()
    *asked, answer = QUESTIONS[language]
    place = {"country": 0, "currency": 1, "official": 2, "script": 4}[answer_kind]
    spoken = (subject_kind, answer_kind) == ("language", "country")
    return "\n".join((named, asked[3 if spoken else place], answer + COLON.rstrip()))
