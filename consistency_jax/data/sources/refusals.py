"""PolyRefuse with answers to prefer: how an answer begins that refuses, and how one that helps.

The prompts are those of `polyrefuse.py`. Of a harmful one the refusal is the gold, of a harmless one the help, so that
dpo, simpo, orpo and sft learn to refuse the one without refusing the other, in all 14 languages. The answers are
openings, this project's own sentences: what follows them is left to the model, and behind them no end of turn is
trained (unless data.train.end=always).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import polyrefuse
from consistency_jax.data.sources.source import Experiment, Row, Rows, Typical

BREAK = "\n\n"  # between prompt and answer; a chat template drops it
# Language -> openings that refuse, then as many that help; place k says nearly the same in every language.
OPENINGS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "en": (
        ("I'm sorry, but I can't help with that.", "I will not do that, because it could harm people."),
        ("Of course, I'm glad to help. Here is how:", "Yes, here is an answer to your request:"),
    ),
    "ar": (
        ("آسف، لا أستطيع المساعدة في ذلك.", "لن أفعل ذلك، لأنه قد يؤذي الناس."),
        ("بالطبع، يسعدني أن أساعد. إليك الطريقة:", "نعم، إليك إجابة على طلبك:"),
    ),
    "de": (
        ("Es tut mir leid, aber dabei kann ich nicht helfen.", "Das werde ich nicht tun, es könnte Menschen schaden."),
        ("Natürlich, ich helfe gern. So geht es:", "Ja, hier ist eine Antwort auf Ihre Anfrage:"),
    ),
    "es": (
        ("Lo siento, pero no puedo ayudar con eso.", "No voy a hacerlo, porque podría dañar a otras personas."),
        ("Por supuesto, con gusto te ayudo. Se hace así:", "Sí, aquí tienes una respuesta a tu petición:"),
    ),
    "fr": (
        ("Désolé, mais je ne peux pas vous aider à cela.", "Je ne vais pas le faire, cela pourrait nuire à des gens."),
        ("Bien sûr, je vous aide volontiers. Voici comment faire :", "Oui, voici une réponse à votre demande :"),
    ),
    "it": (
        ("Mi dispiace, ma non posso aiutarti in questo.", "Non posso farlo, perché potrebbe nuocere ad altre persone."),
        ("Certo, ti aiuto volentieri. Ecco come si fa:", "Sì, ecco una risposta alla tua richiesta:"),
    ),
    "ja": (
        ("申し訳ありませんが、それはお手伝いできません。", "人を傷つけるおそれがあるので、それはできません。"),
        ("もちろん、喜んでお手伝いします。方法は次のとおりです。", "はい、ご質問への答えは次のとおりです。"),
    ),
    "ko": (
        ("죄송하지만 그것은 도와드릴 수 없습니다.", "사람들에게 해를 끼칠 수 있으므로 그렇게 할 수 없습니다."),
        ("물론입니다, 기꺼이 도와드리겠습니다. 방법은 다음과 같습니다.", "네, 요청하신 답은 다음과 같습니다."),
    ),
    "nl": (
        ("Het spijt me, maar daar kan ik niet bij helpen.", "Dat ga ik niet doen, want het zou mensen kunnen schaden."),
        ("Natuurlijk, ik help graag. Zo doe je dat:", "Ja, hier is een antwoord op je vraag:"),
    ),
    "pl": (
        ("Przykro mi, ale nie mogę w tym pomóc.", "Nie mogę tego zrobić, bo mogłoby to zaszkodzić ludziom."),
        ("Oczywiście, chętnie pomogę. Oto jak to zrobić:", "Tak, oto odpowiedź na twoją prośbę:"),
    ),
    "ru": (
        ("Извините, но я не могу с этим помочь.", "Я не буду этого делать: это может навредить людям."),
        ("Конечно, с радостью помогу. Вот как это сделать:", "Да, вот ответ на ваш запрос:"),
    ),
    "th": (
        ("ขออภัย ฉันไม่สามารถช่วยเรื่องนั้นได้", "ฉันไม่สามารถทำเช่นนั้นได้ เพราะอาจเป็นอันตรายต่อผู้คน"),
        ("ได้แน่นอน ยินดีช่วย วิธีทำมีดังนี้", "ได้ นี่คือคำตอบสำหรับคำขอของคุณ"),
    ),
    "yo": (
        ("Má bínú, mi ò lè ràn ọ́ lọ́wọ́ pẹ̀lú ìyẹn.", "Mi ò lè ṣe ìyẹn, nítorí pé ó lè pa àwọn ènìyàn lára."),
        ("Dájúdájú, inú mi dùn láti ràn ọ́ lọ́wọ́. Bí a ṣe ń ṣe é nìyí:", "Bẹ́ẹ̀ ni, ìdáhùn sí ìbéèrè rẹ nìyí:"),
    ),
    "zh": (
        ("抱歉，我不能帮助你做这件事。", "我不会这样做，因为这可能会伤害他人。"),
        ("当然，我很乐意帮忙。方法如下：", "好的，以下是对你的请求的回答："),
    ),
}  # fmt: skip
SOURCE = dataclasses.replace(
    polyrefuse.SOURCE,
    answers=True,
    experiment=Experiment(115, options={"kind": "both"}),
    typical=Typical(candidates=2, prompt=40, answer=12),
)


def read(path: Path, languages: Sequence[str], split: str | None, *, kind: str = "both") -> Rows:
    """Reads PolyRefuse as `polyrefuse.read` does, each prompt with two candidates: refuse (0) and help (1).

    Returns:
        Its rows; gold 0 for harmful prompts, 1 for harmless ones.

    Raises:
        DataError: a file that is not there.
    """
    bare = polyrefuse.read(path, languages, split, kind=kind)
    return bare._replace(rows=[_answered(number, row) for number, row in enumerate(bare.rows)])


def _answered(number: int, row: Row | DataError) -> Row | DataError:
    if isinstance(row, DataError):
        return row
    candidates = {}
    for language in row.item.prompts:
        refuse, help_ = (openings[number % len(openings)] for openings in OPENINGS[language])
        candidates[language] = (BREAK + refuse, BREAK + help_)
    gold = 0 if row.item.group.startswith("harmful") else 1
    return row._replace(item=dataclasses.replace(row.item, candidates=candidates, gold=gold))
