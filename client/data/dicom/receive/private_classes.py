"""Storage classes on no list of ours: private ones of makers, and those of later editions.

A PACS sends them along with the images of a study (Philips' examcards, Siemens' CSA objects), and
may end at the first one that is refused. Their objects are never stored, so that they may be
accepted by their names alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom.uid import UID
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation

_STANDARD = "1.2.840.10008."
_STANDARD_STORAGE = "1.2.840.10008.5.1.4.1.1."
"""Where the standard names classes by which composite objects are stored (PS3.6, table A-1)."""
_STORAGE_SERVICE = "1.2.840.10008.4.2"


def asked_for(request: Any, known: Iterable[str]) -> list[UID]:
    """The classes that an A-ASSOCIATE request asks for beyond the known ones and that may be of
    storage: PS3.4, annex B has no other mark of a private one."""
    asked = {each.abstract_syntax for each in request.presentation_context_definition_list}
    return sorted(uid for uid in asked.difference(known) if may_be_storage(uid))


def may_be_storage(uid: str) -> bool:
    """Of a class that pydicom does not know."""
    if not UID(uid).is_valid:
        return False
    return uid.startswith(_STANDARD_STORAGE) or not uid.startswith(_STANDARD)


def as_storage(classes: Iterable[str]) -> dict[str, SOPClassCommonExtendedNegotiation]:
    """What says of each class that it is one of the Storage Service (PS3.7, D.3.3.6): so pynetdicom
    answers its C-STORE requests."""
    said = {}
    for uid in classes:
        item = said[uid] = SOPClassCommonExtendedNegotiation()
        item.sop_class_uid, item.service_class_uid = UID(uid), UID(_STORAGE_SERVICE)
    return said
