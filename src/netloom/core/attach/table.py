"""The table of attachments. Adding one: a module in this folder, a line here, its tests."""

from __future__ import annotations

from netloom.core.attach.bridge import BridgeAttachment
from netloom.core.attach.contract import Attachment
from netloom.core.attach.routed import RoutedAttachment

ATTACHMENTS: dict[str, Attachment] = {
    attachment.name: attachment for attachment in (BridgeAttachment(), RoutedAttachment())
}
