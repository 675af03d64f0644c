"""Texts of an object as they may be kept: cleaned descriptors, no identifier.

Technicians type patients' and physicians' names into protocol names, so a descriptor is rebuilt
from the words of a public vocabulary alone (PS3.15, E.3.5: clean descriptors). What is decided
about a text depends on its own object only, never on other patients'.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_WORDS = """
abd abdo abdomen abdominal adult airway angio angiography ankle aorta aortic ap apical arm arterial
axial axillary barium bilateral biopsy bladder bone bowel brain breast bronchi bw calcaneus calcium
cap cardiac carotid cc cervical cest chest child clavicle coccyx colon contrast cor coronal coronary
cr cranial cspine ct cta ctpa decubitus delayed dental diffusion dose dr dual dwi dx early elbow
enhanced epi erect expiration expiratory extremity eye face facial fast femoral femur fetal fibula
finger flair flexion follow foot forearm frontal full gated guided hand head heart heel helical high
hip hrct humerus iac iliac implant infant inlet inspiration inspiratory joint kidney knee kub l
laryngeal larynx lat lateral ld ldct left leg liver localizer long low lower lspine lumbar lung
lungs mammo mammography mandible maxilla mediastinum mlo mobile mr mra mri nasal native neck
neonatal newborn nm no noncontrast oblique obl odontoid orbit orbits outlet pa pancreas parotid
patella pediatric paediatric pelvic pelvis perfusion pet petct phase pituitary planning plain
portable post pre prone prostate pulmonary rad ray recon renal rib ribs right routine sacral sacrum
sag sagittal scan scapula scout screening sella sequence series short shoulder si single sinus
sinuses skeletal skull soft spine spiral spleen standard standing sternum stomach stress supine
survey t1 t2 temporal thigh thin thoracic thorax throat thumb thyroid tibia tissue toe total trauma
tspine tube two unenhanced upper upright urogram us uterus vein venous ventilation view views volume
wb weighted whole with without wo wrist wrists xr xray yr yrs
"""
VOCABULARY = frozenset(_WORDS.split())
_LONGEST = 64
_CODE = re.compile(r"[A-Z0-9][A-Z0-9_ ]{0,15}")
_HEAD = re.compile(
    r"\b(head|brain|skull|crani|cereb|encephal|face|facial|orbit|sinus|nasal|nose|dental|maxill"
    r"|mandib|jaw|pituit|sella|iac\b|tmj\b|eye|whole ?body|neuro"
    r"|kopf|schadel|gehirn|hirn|gesicht|tete|visage|cerveau|cabeza|cara\b|cerebro|testa|cranio"
    r"|encefal|hoofd|hersen|huvud|hjarn|hode\b)"
)
"""How words for a head and its parts begin: English, German, French, Spanish, Italian, Dutch,
Swedish and Norwegian."""
_SCREEN = re.compile(r"SCREEN|SAVE|CAPTURE")
_SAVED = re.compile(r"\b(screen[ -]?(save|shot|cap|dump|copy|print)|saved?\b|captures?\b)")
"""In an image type, and in a description, where "screening" is something else."""
_SHORTEST, _SHORTEST_NUMBER, _WITHIN = 2, 4, 5
"""Letters and digits from which on a word counts as part of an identifier, and is looked for within
words too."""


def code(text: str | None) -> str | None:
    """A code string (VR CS, PS3.5 section 6.2), upper case; None for what cannot be one."""
    term = (text or "").strip().upper()
    return term if _CODE.fullmatch(term) else None


def cleaned(text: str | None, extra: frozenset[str] = frozenset()) -> str | None:
    """The vocabulary's words in `text`, in order and lower case, with a number of at most three
    digits where it is the only one: two could be of a date. None where no word is left. `extra`:
    words that the site declares harmless."""
    folded = _folded(text or "")
    lone = len(re.findall(r"(?<![a-z])\d+|\d{2,}", folded)) == 1
    harmless = [
        word
        for word in re.findall(r"[a-z]+(?:\d(?!\d))?|\d+", folded)
        if word in VOCABULARY or word in extra or (lone and word.isdigit() and len(word) <= 3)
    ]
    return " ".join(harmless)[:_LONGEST] if not all(map(str.isdigit, harmless)) else None


def names_a_head(text: str) -> bool:
    return _HEAD.search(_folded(text).replace("_", " ")) is not None


def names_a_screen(image_type: str, description: str) -> bool:
    """Whether an object says that it is a copy of a screen, by Image Type (PS3.3, C.7.6.1.1.2) in
    any of its values, or by Series Description."""
    described = _folded(description).replace("_", " ")
    return bool(_SCREEN.search(image_type.upper()) or _SAVED.search(described))


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """The words by which an identifier would be known again: names of two letters and more,
    numbers of four digits and more. Words of the vocabulary name nobody."""
    return frozenset(
        word
        for text in texts
        for word in _parts(text)
        if len(word) >= (_SHORTEST_NUMBER if word.isdigit() else _SHORTEST)
        and word not in VOCABULARY
    )


def betrays(text: str | None, identifying: frozenset[str]) -> bool:
    """Whether `text` repeats a word of `identifying`: as a word, or a longer one within a word."""
    parts = _parts(text or "")
    joined = " ".join(parts)
    return any(word in parts or (len(word) >= _WITHIN and word in joined) for word in identifying)


def _parts(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", _folded(text))


def _folded(text: str) -> str:
    """Lower case, without accents."""
    if text.isascii():
        return text.lower()
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in split if not unicodedata.combining(c))
