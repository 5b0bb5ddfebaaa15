"""Sentences in twelve languages, written for trivec: for the tiny tokenizer's pieces and to encode in tests."""

SENTENCES = {
    "en": [
        "The library turns every sentence into three kinds of vectors.",
        "A small boat crossed the quiet lake before sunrise.",
        "Which of the two bridges was built first, and who paid for it?",
        "Searching by meaning finds what searching by words alone would miss.",
    ],
    "de": [
        "Die Bibliothek verwandelt jeden Satz in drei Arten von Vektoren.",
        "Ein kleines Boot überquerte den stillen See vor Sonnenaufgang.",
        "Welche der beiden Brücken wurde zuerst gebaut, und wer bezahlte sie?",
        "Straßenbahnen fahren hier auch nachts im Zehnminutentakt.",
    ],
    "fr": [
        "La bibliothèque transforme chaque phrase en trois sortes de vecteurs.",
        "Un petit bateau traversa le lac tranquille avant l'aube.",
        "Lequel des deux ponts fut construit le premier, et qui l'a payé ?",
    ],
    "es": [
        "La biblioteca convierte cada frase en tres tipos de vectores.",
        "Una pequeña barca cruzó el lago tranquilo antes del amanecer.",
        "¿Cuál de los dos puentes se construyó primero y quién lo pagó?",
    ],
    "tr": [
        "Kütüphane her cümleyi üç tür vektöre dönüştürür.",
        "Küçük bir tekne gün doğmadan önce sakin gölü geçti.",
        "İki köprüden hangisi önce yapıldı ve parasını kim ödedi?",
    ],
    "vi": [
        "Thư viện biến mỗi câu thành ba loại vectơ.",
        "Một chiếc thuyền nhỏ băng qua mặt hồ yên tĩnh trước bình minh.",
        "Cây cầu nào trong hai cây cầu được xây trước?",
    ],
    "ru": [
        "Библиотека превращает каждое предложение в три вида векторов.",
        "Маленькая лодка пересекла тихое озеро до рассвета.",
        "Какой из двух мостов построили первым и кто за него заплатил?",
    ],
    "zh": ["这个库把每个句子变成三种向量。", "日出之前,一条小船穿过了平静的湖面。", "两座桥中哪一座先建成?谁出的钱?"],
    "ja": [
        "このライブラリは、どの文も三種類のベクトルに変えます。",
        "夜明け前に小さな舟が静かな湖を渡った。",
        "二つの橋のうち、先に架けられたのはどちらですか。",
    ],
    "ar": [
        "تحول المكتبة كل جملة إلى ثلاثة أنواع من المتجهات.",
        "عبر قارب صغير البحيرة الهادئة قبل شروق الشمس.",
        "أي الجسرين بني أولا، ومن دفع ثمنه؟",
    ],
    "hi": [
        "पुस्तकालय हर वाक्य को तीन प्रकार के सदिशों में बदलता है।",
        "सूर्योदय से पहले एक छोटी नाव ने शांत झील पार की।",
        "दोनों पुलों में से पहले कौन सा बना और किसने पैसे दिए?",
    ],
    "th": [
        "ไลบรารีแปลงทุกประโยคเป็นเวกเตอร์สามชนิด",
        "เรือลำเล็กข้ามทะเลสาบอันเงียบสงบก่อนพระอาทิตย์ขึ้น",
        "สะพานใดในสองสะพานถูกสร้างขึ้นก่อน และใครเป็นผู้จ่ายเงิน",
    ],
}
