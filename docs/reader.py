#!/usr/bin/env python3
"""A small, independent reader for Lifeboat repositories (format 1, draft 3).

It lists the snapshots of a repository and restores them. It shares no code with Lifeboat itself and was written
from docs/format.md alone, so that a backup can be read without the program that made it. It only ever reads the
repository. You need Python 3.11 or newer on Linux or another Unix, and three packages:

    python3 -m venv reader-venv
    reader-venv/bin/pip install blake3 zstandard PyNaCl

REPO is the folder that holds the file `lifeboat`. Copy a remote repository to a disk first.

    reader-venv/bin/python reader.py REPO list
    reader-venv/bin/python reader.py REPO restore SNAPSHOT TARGET          the whole snapshot
    reader-venv/bin/python reader.py REPO restore SNAPSHOT TARGET PATH     one file or folder of it

SNAPSHOT is the beginning of an id that `list` shows, TARGET a folder that is new or empty. The whole snapshot has a
folder for each source in TARGET. With PATH (for example documents/letters, the source's name first) only that item
is restored, as TARGET/letters. The secret comes before REPO; without one you are asked for the passphrase:

    --passphrase-file FILE      the file's content is the passphrase (one line end at its end is left out)
    --key-file FILE             a file that begins with "lifeboat key 1"
    --recovery-key TEXT         the 55 letters and digits of the printed recovery key
    --no-index                  do not use the index, find everything through the packs' own directories

Every hash, signature, commitment and chunk that is used is checked. A line that begins with "Error:" says what is
wrong; whatever else can be restored is restored (a file in full or not at all), and the exit code is 1. A line that
begins with "Note:" says what was left out though nothing is wrong: sockets and devices, items that could not be read
at the time of the backup, extended attributes that cannot be set here. Run as root to get the owners back, by number.
Inode flags are not restored. A file that was packed by gzip or zip, and that Lifeboat took apart, comes back as what
was in it, in a folder with `.parts` at the end of its name. `reader.py --self-check` tests the cryptography against published test vectors.
"""

import argparse
import base64
import collections
import functools
import getpass
import hmac
import io
import os
import re
import sys
import time
from types import SimpleNamespace

import nacl.bindings
import nacl.exceptions
import nacl.signing
import zstandard
from blake3 import blake3

DATA, META = 1, 2  # recipients; what a data pack (kind 3) holds is for DATA, what a meta pack (4) holds for META
RECIPIENT = {DATA: "data", META: "meta"}
SUPERBLOCK, SLOT, DATA_PACK, META_PACK, INDEX, SNAPSHOT, CONFIRM, WRITER, REVOCATION = 1, 2, 3, 4, 5, 6, 7, 13, 15
MIB = 1 << 20
MAX_CHUNK, MAX_CONTENT, MAX_DEPTH, MAX_HEIGHT, MAX_PIECES, MAX_BASE = 16 * MIB, 17 * MIB, 8, 16, 64, 24 * MIB


class Bad(Exception):
    """Something is wrong. The text is a sentence that names the object and the cause."""


FAILURES = (Bad, OSError, ValueError, OverflowError)  # the last two: numbers and names that the system does not take
said = {"Error": set(), "Note": set()}


def say(kind, sentence):
    """Prints an error or a note, each sentence once."""
    if sentence not in said[kind]:
        said[kind].add(sentence)
        print(f"{kind}: {sentence}", file=sys.stderr)


def attempt(action, before="", after=""):
    """Does it and returns what it returns. If it fails, that is printed, and the program goes on."""
    try:
        return action()
    except FAILURES as error:
        return say("Error", f"{before}{error}{after}")


def shown(text):
    """Text or a path from the repository, fit for a terminal."""
    text = os.fsdecode(text) if isinstance(text, bytes) else text
    return "".join(c if c.isprintable() else "?" for c in text)


# ---------------------------------------------------------------- small encodings (section 1 of the page)


class Cursor:
    """Takes things from the front of some bytes; `what` names them in errors."""

    def __init__(self, data, what):
        self.data, self.pos, self.what = data, 0, what

    def left(self):
        return len(self.data) - self.pos

    def take(self, n):
        if n > self.left():
            raise Bad(f"{self.what} ends too early.")
        self.pos += n
        return self.data[self.pos - n : self.pos]

    def number(self, n):
        return int.from_bytes(self.take(n), "little")

    def varint(self):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                if (shift and byte == 0) or value >> 64:
                    break
                return value
        raise Bad(f"{self.what} holds a number that is not coded in its shortest form.")


def record(text):
    """The fields of a record in order: `name:type`, with ! if required, - for a number that is not used.
    Types: num, int (zigzag), bytes, text, list (of byte strings), 16 or 32 (that many bytes)."""
    fields = {}
    for number, word in enumerate(text.split(), 1):
        if word != "-":
            name, kind = word.split(":")
            fields[number] = (name, kind.rstrip("!"), kind.endswith("!"))
    return fields


R_SUPERBLOCK = record("format:num! draft:num! family:16! replica:16! incompat:num! ro_incompat:num! "
                      "gc_incompat:num! created:num admin:32!")
R_WRITER = record("public:32! domain:num! role:num! host:text enrolled:num")
R_REVOCATION = record("writer:16! revoked:num reason:text")
R_SLOT = record("id:16! type:num! memory:num passes:num lanes:num salt:16! public:32! role:num! label:text created:num")
R_SLOT_INNER = record("secret:32! admin:32! family:16! superblock:bytes!")
R_KEYRING = record("role:num! generations:list admin:32 data_root:32 meta_root:32 chunker:32! own:bytes writer:32 "
                   "recovery:32")
R_GENERATION = record("number:num data_public:32 meta_public:32 data_secret:32 meta_secret:32")
R_STREAM = record("length:num profile:num depth:num items:bytes")
R_DIRECTORY = record("area:32! origins:list rows:bytes!")
R_ORIGIN = record("domain:num writer:16!")
R_INDEX = record("packs:list superseded:list envelopes:list")
R_INDEX_PACK = record("id:32! run:bytes! kind:num! length:num! start:num! origins:list rows:bytes! envelopes:bytes")
R_ENTRY = record("kind:num! name:bytes! mode:num user:num group:num mtime:int mtime_ns:num ctime:int ctime_ns:num "
                 "inode:num - size:num chunk:16 stream:bytes target:bytes device:num link:num xattrs:list flags:num "
                 "status:num bundle:bytes part:bytes")
R_PART = record("coding:num makes:num lead:num corrections:num label:bytes")
R_XATTR = record("name:bytes value:bytes")
R_SNAPSHOT = record("id:16! app:text! seq:num! previous:32 host:text user:text started:num! finished:num zone:text "
                    "program:text root:bytes! manifest:bytes! domain:num! parent:16 tags:list files:num bytes:num "
                    "unreadable:num new:num stored:num")
R_CONFIRM = record("snapshot:32! time:num packs:num chunks:num")


def parse(fields, data, what):
    """The record in `data`: its fields as attributes, empty or 0 where they are missing."""
    empty = {"num": 0, "int": 0, "text": ""}
    out = {name: [] if kind == "list" else empty.get(kind, b"") for name, kind, _ in fields.values()}
    cur, last, present = Cursor(data, what), 0, set()
    while cur.left():
        key = cur.varint()
        number, critical, is_bytes = key >> 2, key & 2, key & 1
        value = cur.take(cur.varint()) if is_bytes else cur.varint()
        name, kind, _ = fields.get(number, ("unknown", "unknown", False))
        wrong = f"{what}: field {number} ({name})"
        if number < last:
            raise Bad(f"{wrong} comes after field {last}.")
        if number not in fields and critical:
            raise Bad(f"{wrong} is critical, and this reader does not know it.")
        if number in fields and bool(is_bytes) == (kind in ("num", "int")):
            raise Bad(f"{wrong} is of the wrong type.")
        if number in present and kind not in ("list", "unknown"):
            raise Bad(f"{wrong} stands there twice.")
        if kind.isdigit() and len(value) != int(kind):
            raise Bad(f"{wrong} has {len(value)} bytes, not {kind}.")
        if kind == "list":
            out[name].append(value)
        elif number in fields:
            out[name] = (value >> 1) ^ -(value & 1) if kind == "int" else value.decode() if kind == "text" else value
        present.add(number)
        last = number
    for number, (name, _, required) in fields.items():
        if required and number not in present:
            raise Bad(f"{what}: the required field {number} ({name}) is missing.")
    return SimpleNamespace(**out)


def padding_class(length):
    if length <= 256:
        return 256
    e = length.bit_length() - 1
    step = min(1 << (e - e.bit_length()), 131072)  # e.bit_length() is floor(log2 e) + 1
    return -(-length // step) * step


def unpad(data, what):
    cur = Cursor(data, what)
    text = cur.take(cur.number(4))
    if len(data) != padding_class(4 + len(text)) or any(data[cur.pos :]):
        raise Bad(f"{what}: its padding is wrong.")
    return text


# ---------------------------------------------------------------- cryptography


def digest(data):
    return blake3(data).digest()


def derive(context, material):
    return blake3(material, derive_key_context=context).digest()


def open_aead(key, nonce, associated, sealed, what):
    """XChaCha20-Poly1305."""
    try:
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, associated, nonce, key)
    except nacl.exceptions.CryptoError:
        raise Bad(f"{what} does not open with its key: it was changed or damaged.") from None


def hpke_open(secret, enc, info, associated, sealed, what):
    """RFC 9180 base mode, single shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305."""
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"

    def extract(name, salt, label, material):
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + name + label + material, "sha256")

    def expand(name, key, label, context, length):  # HKDF-Expand of up to 32 bytes, which is one block
        material = length.to_bytes(2, "big") + b"HPKE-v1" + name + label + context + b"\1"
        return hmac.digest(key, material, "sha256")[:length]

    try:
        shared_point = nacl.bindings.crypto_scalarmult(secret, enc)
        public = nacl.bindings.crypto_scalarmult_base(secret)
        shared = expand(kem, extract(kem, b"", b"eae_prk", shared_point), b"shared_secret", enc + public, 32)
        context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
        schedule = extract(suite, shared, b"secret", b"")
        key, nonce = expand(suite, schedule, b"key", context, 32), expand(suite, schedule, b"base_nonce", context, 12)
        return nacl.bindings.crypto_aead_chacha20poly1305_ietf_decrypt(sealed, associated, nonce, key)
    except (nacl.exceptions.CryptoError, ValueError, RuntimeError):
        raise Bad(f"{what} does not open with the secret key: it was changed or damaged.") from None


def check_signature(public, message, signature, what):
    try:
        nacl.signing.VerifyKey(public).verify(message, signature)
    except (nacl.exceptions.CryptoError, ValueError):
        raise Bad(f"{what}: the signature does not fit.") from None


# ---------------------------------------------------------------- objects (section 2)

NAMES = [(kind, re.compile(pattern)) for kind, pattern in [
    (SUPERBLOCK, r"lifeboat"),
    (SLOT, r"keys/([0-9a-f]{32})\.([0-9a-f]{4})"),
    (DATA_PACK, r"packs/d/([0-9a-f]{2})/(\1[0-9a-f]{62})-([0-9a-f]{16})"),
    (META_PACK, r"packs/m/([0-9a-f]{2})/(\1[0-9a-f]{62})-([0-9a-f]{16})"),
    (INDEX, r"index/([0-9a-f]{64})"),
    (SNAPSHOT, r"snap/([0-9a-f]{32})/([0-9a-f]{8})-([0-9a-f]{32})"),
    (CONFIRM, r"snap/([0-9a-f]{32})/([0-9a-f]{8})-([0-9a-f]{32})\.ok"),
    (WRITER, r"writers/([0-9a-f]{32})"),
    (REVOCATION, r"writers/([0-9a-f]{32})\.revoked"),
]]  # this reader needs no objects of other kinds
BY_CONTENT = {DATA_PACK: 2, META_PACK: 2, INDEX: 1}  # kinds named by content: the part of the name with the hash


def find_objects(root):
    """{kind: {name: match}}. Files whose names fit no pattern are not part of the repository."""
    found = {kind: {} for kind, _ in NAMES}
    for folder, _, files in os.walk(root):
        for file in files:
            name = os.path.relpath(os.path.join(folder, file), root).replace(os.sep, "/")
            for kind, pattern in NAMES:
                if match := pattern.fullmatch(name):
                    found[kind][name] = match
    return found


def split_frame(name, kind, match, head, tail, size):
    """Checks an object's header (its first 64 bytes) and footer (in its last 64 bytes)."""
    what = f"Object {name}"
    if size < 128:
        raise Bad(f"{what} has only {size} bytes and is cut off.")
    if head[:8] != b"LIFEBOAT" or tail[24:32] != b"LBFOOT01" or any(tail[16:24]):
        raise Bad(f"{what} has no Lifeboat header or footer: it is damaged or cut off.")
    if head[8] != 1 or head[10] != 1:
        raise Bad(f"{what} has frame version {head[8]} and suite {head[10]}; this reader knows only 1 and 1.")
    if head[9] != kind or head[11] != (kind in BY_CONTENT):
        raise Bad(f"{what} is in truth of kind {head[9]} with flags {head[11]}.")
    if int.from_bytes(head[12:16], "little") & ~(1 if kind in (DATA_PACK, META_PACK) else 0):
        raise Bad(f"{what} needs a feature that this reader does not know.")
    if head[56:64] != (bytes(8) if kind in BY_CONTENT else digest(name.encode())[:8]):
        raise Bad(f"{what} was written under another name.")
    if kind in (DATA_PACK, META_PACK) and match[3] != head[32:40].hex():
        raise Bad(f"{what} is of another run than its name says.")
    body, directory, blocks = (int.from_bytes(tail[a:b], "little") for a, b in ((0, 8), (8, 12), (12, 16)))
    if blocks != (-(-(64 + body) // 65536) if 64 + body > 65536 else 0) or size != 128 + body + 16 * blocks:
        raise Bad(f"{what} has not the length that its footer says.")
    # The signatures and sealed bodies of objects that are named by content leave the name out.
    return SimpleNamespace(name=name, what=what, header=head, family=head[16:32], end=64 + body, directory=directory,
                           bound=b"" if kind in BY_CONTENT else name.encode())


def read_object(root, name, kind, match):
    """A whole object that is not a pack, with its final hash checked."""
    with open(os.path.join(root, name), "rb") as file:
        data = file.read()
    obj = split_frame(name, kind, match, data[:64], data[-64:], len(data))
    obj.final = data[-32:]
    if digest(data[:-32]) != obj.final or (kind in BY_CONTENT and obj.final.hex() != match[BY_CONTENT[kind]]):
        raise Bad(f"{obj.what} is damaged: its final hash does not fit.")
    obj.body = data[64 : obj.end]
    return obj


def read_envelopes(file, what):
    """The envelope area at the file's position, as a list of whole envelopes."""
    envelopes = []
    for _ in range(int.from_bytes(file.read(2), "little")):
        start = file.read(4)
        length = int.from_bytes(start[2:], "little")
        envelopes.append(start + file.read(max(length - 4, 0)))
        if len(envelopes[-1]) != max(length, 5):
            raise Bad(f"{what}: the envelope area ends too early.")
    return envelopes


def first_envelope(envelopes, recipient, what):
    for envelope in envelopes:
        if envelope[:2] == b"\1\0" and envelope[4:5] == bytes([recipient]):
            return envelope
    raise Bad(f"{what} has no {RECIPIENT[recipient]} envelope of a suite that this reader knows.")


# ---------------------------------------------------------------- the secret and the key slot (section 4)


class Secret:
    """What the user has. `material` makes the 32 bytes s of a slot's clear part from it."""

    def __init__(self, types, value, slot=None, family=None, admin=None):
        self.types, self.value, self.slot, self.family, self.admin, self.made = types, value, slot, family, admin, {}

    def material(self, p, what):
        if p.type in (2, 3):
            return derive("lifeboat 1 slot secret", self.value + p.salt)
        if not (65536 <= p.memory <= 262144 and 3 <= p.passes <= 10 and 1 <= p.lanes <= 4):
            raise Bad(f"{what} asks for Argon2id parameters out of range.")
        if p.lanes != 1:
            raise Bad(f"{what} uses Argon2id with {p.lanes} lanes; this reader can do one lane only.")
        key = (p.salt, p.memory, p.passes)
        if key not in self.made:
            self.made[key] = nacl.bindings.crypto_pwhash_alg(
                32, self.value, p.salt, p.passes, p.memory * 1024, nacl.bindings.crypto_pwhash_ALG_ARGON2ID13)
        return self.made[key]


def passphrase(value):
    return Secret((1, 4), value[:-2] if value.endswith(b"\r\n") else value.removesuffix(b"\n"))


def key_file(path):
    with open(path, encoding="utf-8") as file:
        match = re.fullmatch(r"lifeboat key 1\s+family ([0-9a-f]{32})\s+slot ([0-9a-f]{32})\s+admin ([0-9a-f]{64})\s+"
                             r"secret ([0-9a-f]{64})\s*", file.read())
    if not match:
        raise Bad(f"{path} is not a Lifeboat key file of version 1.")
    family, slot, admin, secret = map(bytes.fromhex, match.groups())
    return Secret((2,), secret, slot, family, admin)


def recovery_key(text):
    letters = re.sub(r"[^A-Z0-9]", "", text.upper())
    if not re.fullmatch(r"[A-Z2-7]{55}", letters):
        raise Bad(f"A recovery key has 55 letters and digits from 2 to 7, this one has {len(letters)} or others.")
    raw = base64.b32decode(letters + "=")
    if digest(b"lifeboat 1 recovery key" + raw[:32])[:2] != raw[32:]:
        raise Bad("The recovery key has a typing mistake: its check does not fit.")
    return Secret((3,), raw[:32])


def check_superblock(superblock, what):
    if superblock.format != 1 or (superblock.incompat >> 63 and superblock.draft != 3):
        raise Bad(f"{what}: format {superblock.format}, draft {superblock.draft}. This reader knows format 1, draft 3.")
    if superblock.incompat & ~(1 << 63):
        raise Bad(f"{what} needs features that this reader does not know (bits {superblock.incompat:x}).")


def open_slot(obj, slot_id, secret):
    """The keys of one slot; None if the slot is not for this secret."""
    cur = Cursor(obj.body, obj.what)
    clear = cur.take(cur.number(4))
    p = parse(R_SLOT, clear, obj.what)
    if p.id != slot_id:
        raise Bad(f"{obj.what} is the slot {p.id.hex()} in truth.")
    if p.type not in secret.types or secret.slot not in (None, p.id):
        return None
    s = secret.material(p, obj.what)
    if not hmac.compare_digest(cur.take(32), derive("lifeboat 1 slot commitment", s)):
        return None
    sealed = Cursor(cur.take(cur.number(4)), f"{obj.what}: its sealed part")
    inner = open_aead(derive("lifeboat 1 slot key", s), sealed.take(24), b"lifeboat 1 slot" + obj.family + clear,
                      sealed.take(sealed.left()), sealed.what)
    inner = parse(R_SLOT_INNER, inner, sealed.what)
    enc, keyring, signature = cur.take(32), cur.take(cur.number(4)), cur.take(64)
    if cur.left():
        raise Bad(f"{obj.what} holds bytes after its end.")
    if secret.admin not in (None, inner.admin) or secret.family not in (None, inner.family):
        raise Bad(f"{obj.what} has another admin key or family than the key file.")
    if inner.family != obj.family or nacl.bindings.crypto_scalarmult_base(inner.secret) != p.public:
        raise Bad(f"{obj.what}: its inner and its outer part do not belong together.")
    message = b"lifeboat 1 slot" + obj.header + len(obj.bound).to_bytes(2, "little") + obj.bound + obj.body[:-64]
    check_signature(inner.admin, message, signature, obj.what)
    check_superblock(parse(R_SUPERBLOCK, inner.superblock, f"{obj.what}: its superblock"), obj.what)
    what = f"{obj.what}: its keyring"
    text = unpad(hpke_open(inner.secret, enc, b"lifeboat 1 keyring" + inner.family, p.id, keyring, what), what)
    return inner, parse(R_KEYRING, text, what)


def unlock(root, slots, secret):
    """Opens the newest good version of the first slot that the secret fits."""
    for name, match in sorted(slots.items(), key=lambda item: item[1][2], reverse=True):
        keys = attempt(lambda: open_slot(read_object(root, name, SLOT, match), bytes.fromhex(match[1]), secret))
        if keys:
            return keys
    raise Bad(f"None of the {len(slots)} key slots of {root} opens: wrong passphrase or key" +
              (", or see the errors above." if said["Error"] else "."))


# ---------------------------------------------------------------- the repository


class Segment(collections.namedtuple("Segment", "pack offset length codec ids envelope domain base")):
    @property
    def what(self):
        return f"Object {self.pack.name}: the segment at {self.offset}"

    @property
    def height(self):
        return self.base[0] if self.base else 0

    def meant(self, skip, count):
        return self.ids[16 * skip : 16 * (skip + count)]


class Pack:
    def __init__(self, name, kind, match, area=None):
        self.name, self.kind, self.id, self.checked = name, kind, bytes.fromhex(match[2]), False
        self.area = area  # (length, hash) of the bytes before the directory, if the directory was read


class Repository:
    def __init__(self, root, secret, use_index=True):
        self.root, self.objects = root, find_objects(root)
        if not self.objects[SLOT]:
            raise Bad(f"There are no key slots in {root}: it is no Lifeboat repository, or its folder keys is lost.")
        inner, keyring = unlock(root, self.objects[SLOT], secret)
        self.family, self.admin = inner.family, inner.admin
        self.admin_id = digest(inner.admin)[:16]
        self.generations = {}
        for raw in keyring.generations:
            g = parse(R_GENERATION, raw, "A generation of the keyring")
            self.generations[DATA, g.number], self.generations[META, g.number] = g.data_secret, g.meta_secret
        self.roots = {DATA_PACK: keyring.data_root, META_PACK: keyring.meta_root}
        self.writers, self.revoked = {}, set()
        self.table = collections.defaultdict(dict)  # {(kind of pack, domain): {chunk id: (segments,)}}
        self.bad = set()  # segments that failed
        self.indexed, self.listed = set(), set()  # packs that an index told of; whose own directory was read
        superblock = attempt(self.read_superblock, after=" The copy in the key slot is used.")
        if superblock:
            check_superblock(superblock, "Object lifeboat")
        for name, match in self.objects[WRITER].items():
            attempt(lambda: self.read_writer(name, bytes.fromhex(match[1])))
        for name, match in self.objects[REVOCATION].items():
            attempt(lambda: self.read_revocation(name, bytes.fromhex(match[1])), after=" The writer counts as revoked.")
        # Places to look for chunks, in this order, each only when the ones before were not enough.
        self.sources = [self.read_indexes] if use_index else []
        self.sources += [lambda: self.read_directories(self.indexed), lambda: self.read_directories(self.listed)]

    # ---- signed and sealed objects

    def get(self, name, kind):
        if name not in self.objects[kind]:
            raise Bad(f"Object {name} is missing.")
        obj = read_object(self.root, name, kind, self.objects[kind][name])
        if obj.family != self.family:
            raise Bad(f"{obj.what} belongs to another family of repositories.")
        return obj

    def verify(self, signed, header, bound, what, admin_only=False):
        """The record of signed(R), and who signed it: None for the admin key, else the enrolled writer."""
        if len(signed) < 80:
            raise Bad(f"{what} is too short to be signed.")
        text, signer, signature = signed[:-80], signed[-80:-64], signed[-64:]
        writer = None if signer == self.admin_id else self.writers.get(signer)
        if signer != self.admin_id and (admin_only or writer is None):
            raise Bad(f"{what} is signed by {signer.hex()}, " +
                      ("not by the admin key." if admin_only else "which is not an enrolled writer."))
        if signer in self.revoked:
            raise Bad(f"{what} is signed by the writer {signer.hex()}, which is revoked.")
        message = b"lifeboat 1 signed" + header + len(bound).to_bytes(2, "little") + bound + text
        check_signature(writer.public if writer else self.admin, message, signature, what)
        return text, writer

    def read_clear(self, name, kind, fields):
        obj = self.get(name, kind)
        cur = Cursor(obj.body, obj.what)
        text, _ = self.verify(cur.take(cur.number(4)), obj.header, obj.bound, obj.what, admin_only=True)
        if cur.left():
            raise Bad(f"{obj.what} holds bytes after its end.")
        return parse(fields, text, obj.what)

    def read_sealed(self, name, kind, fields):
        obj = self.get(name, kind)
        file = io.BytesIO(obj.body)
        envelopes = read_envelopes(file, obj.what)
        nonce, sealed = file.read(24), file.read()
        key = derive("lifeboat 1 object", self.run_key(first_envelope(envelopes, META, obj.what), META))
        text = open_aead(key, nonce, b"lifeboat 1 object" + obj.header + obj.bound, sealed, obj.what)
        text, signer = self.verify(unpad(text, obj.what), obj.header, obj.bound, obj.what)
        return parse(fields, text, obj.what), signer, obj.final

    @functools.cache
    def run_key(self, envelope, recipient):
        generation = int.from_bytes(envelope[6:8], "little")
        what = f"The envelope {envelope[8:24].hex()}"
        if len(envelope) != 136 or envelope[:2] != b"\1\0" or envelope[4] != recipient or envelope[5]:
            raise Bad(f"{what} is not of suite 1 or not for this kind of key.")
        secret = self.generations.get((recipient, generation))
        if not secret:
            raise Bad(f"{what} needs the secret {RECIPIENT[recipient]} key of generation {generation}, which this key "
                      "slot does not hold.")
        info = b"lifeboat 1 envelope" + self.family
        key = hpke_open(secret, envelope[56:88], info, envelope[:56], envelope[88:], what)
        if not hmac.compare_digest(derive("lifeboat 1 envelope", key + envelope[8:24]), envelope[24:56]):
            raise Bad(f"{what}: its commitment does not fit.")
        return key

    def read_superblock(self):
        superblock = self.read_clear("lifeboat", SUPERBLOCK, R_SUPERBLOCK)
        if (superblock.admin, superblock.family) != (self.admin, self.family):
            raise Bad("Object lifeboat names another admin key or family than the key slot.")
        return superblock

    def read_writer(self, name, writer_id):
        writer = self.read_clear(name, WRITER, R_WRITER)
        writer.id = digest(writer.public)[:16]
        if writer.id != writer_id:
            raise Bad(f"Object {name} holds the public key of another writer.")
        self.writers[writer.id] = writer

    def read_revocation(self, name, writer_id):
        self.revoked.add(writer_id)
        if self.read_clear(name, REVOCATION, R_REVOCATION).writer != writer_id:
            raise Bad(f"Object {name} revokes another writer than its name says.")

    # ---- snapshots (section 8)

    def confirmed(self, prefix=""):
        """The names of confirmed snapshots whose id begins with the prefix."""
        return [name for name, match in sorted(self.objects[SNAPSHOT].items())
                if match[3].startswith(prefix) and name + ".ok" in self.objects[CONFIRM]]

    def read_snapshot(self, name):
        match = self.objects[SNAPSHOT][name]
        snapshot, signer, final = self.read_sealed(name, SNAPSHOT, R_SNAPSHOT)
        if snapshot.id.hex() != match[3] or snapshot.seq != int(match[2], 16):
            raise Bad(f"Object {name} is the snapshot {snapshot.id.hex()}, number {snapshot.seq}, in truth.")
        if signer and (signer.id.hex() != match[1] or signer.domain != snapshot.domain):
            raise Bad(f"Object {name} is signed by a writer that this name or domain does not belong to.")
        confirm, _, _ = self.read_sealed(name + ".ok", CONFIRM, R_CONFIRM)
        if confirm.snapshot != final:
            raise Bad(f"Object {name}.ok confirms another snapshot.")
        return snapshot

    # ---- where chunks are: directories and indexes (section 6)

    def add_pack(self, pack, rows, start, limit, origins, envelopes, signer, what):
        """Adds a pack's rows to the table of chunks. Its segments lie from start to limit at most."""
        origins = [parse(R_ORIGIN, origin, f"{what}: an origin") for origin in origins]
        if signer and any((o.writer, o.domain) != (signer.id, signer.domain) for o in origins):
            raise Bad(f"{what} names an origin that is not its signer.")
        cur, segments = Cursor(rows, f"{what}: its table of segments"), []
        usual = None
        while cur.left():
            length, head = cur.varint(), cur.varint()
            count, codec, origin, base = head >> 4, head >> 1 & 7, 0, b""
            if head & 1:
                number, origin = cur.varint(), cur.varint()
                base = cur.take(cur.varint())
                envelope = envelopes[number] if number < len(envelopes) else None
            else:
                usual = envelope = usual or first_envelope(envelopes, pack.kind - 2, what)
            if (not 1 <= count <= 65535 or length < 40 or origin >= len(origins) or envelope is None or codec > 2
                    or (codec == 2) != bool(base) or base and not 1 <= base[0] <= MAX_HEIGHT):
                raise Bad(f"{cur.what} has a row that is wrong.")
            segments.append(Segment(pack, start, length, codec, cur.take(16 * count), envelope,
                                    origins[origin].domain, base))
            start += length
        if start > limit:
            raise Bad(f"{what} names segments that lie outside of the pack.")
        for segment in segments:
            table = self.table[pack.kind, segment.domain]
            for at in range(0, len(segment.ids), 16):
                chunk_id = segment.ids[at : at + 16]
                table[chunk_id] = table.get(chunk_id, ()) + (segment,)

    def read_directories(self, skip):
        for kind in (META_PACK, DATA_PACK):
            for name in sorted(self.objects[kind].keys() - skip):
                attempt(lambda: self.read_directory(name, kind))

    def read_directory(self, name, kind):
        with open(os.path.join(self.root, name), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 64, 0))
            tail = file.read(64)
            file.seek(0)
            obj = split_frame(name, kind, self.objects[kind][name], file.read(64), tail, size)
            envelopes = read_envelopes(file, obj.what)
            start, area = file.tell(), obj.end - obj.directory
            file.seek(max(area, 0))
            sealed = file.read(obj.directory)
        if obj.family != self.family or not start <= area <= obj.end - 40:
            raise Bad(f"{obj.what} is damaged: it has no directory, or is of another family of repositories.")
        what = f"{obj.what}: its directory"
        key = derive("lifeboat 1 directory", self.run_key(first_envelope(envelopes, META, what), META))
        text = unpad(open_aead(key, sealed[:24], b"lifeboat 1 directory" + obj.header, sealed[24:], what), what)
        text, signer = self.verify(text, obj.header, b"", what)
        d = parse(R_DIRECTORY, text, what)
        pack = Pack(name, kind, self.objects[kind][name], (area, d.area))
        self.add_pack(pack, d.rows, start, area, d.origins, envelopes, signer, what)
        self.listed.add(name)

    def read_indexes(self):
        for name in sorted(self.objects[INDEX]):
            attempt(lambda: self.read_index(name))

    def read_index(self, name):
        index, signer, _ = self.read_sealed(name, INDEX, R_INDEX)
        for raw in index.packs:
            p = parse(R_INDEX_PACK, raw, f"Object {name}: a pack")
            pack_name = f"packs/{'d' if p.kind == DATA_PACK else 'm'}/{p.id.hex()[:2]}/{p.id.hex()}-{p.run.hex()}"
            match = self.objects[p.kind].get(pack_name) if p.kind in (DATA_PACK, META_PACK) else None
            if not match or pack_name in self.indexed:
                continue
            what = f"Object {name}: its entry for {pack_name}"
            cur, envelopes = Cursor(p.envelopes, what), []
            while cur.left():
                number = cur.varint()
                if number >= len(index.envelopes):
                    raise Bad(f"{what} names an envelope that is not there.")
                envelopes.append(index.envelopes[number])
            pack = Pack(pack_name, p.kind, match)
            self.add_pack(pack, p.rows, p.start, p.length, p.origins, envelopes, signer, what)
            self.indexed.add(pack_name)

    # ---- chunks

    def chunk(self, kind, domain, chunk_id, length):
        """A chunk, from the first place that has it whole."""
        while True:
            for segment in self.table[kind, domain].get(chunk_id, ()):
                if segment in self.bad:
                    continue
                try:
                    return self.chunk_from(segment, chunk_id, length)
                except FAILURES as error:
                    say("Error", str(error))
            if not self.sources:
                raise Bad(f"Chunk {chunk_id.hex()} of domain {domain} is in none of the {RECIPIENT[kind - 2]} packs "
                          "that can be read.")
            self.sources.pop(0)()

    def chunk_from(self, segment, chunk_id, length):
        chunk = self.content(segment)[chunk_id]
        if blake3(chunk, key=self.id_key(segment.pack.kind, segment.domain)).digest()[:16] != chunk_id:
            raise Bad(f"{segment.what}: chunk {chunk_id.hex()} does not fit its id.")
        if len(chunk) != length:
            raise Bad(f"{segment.what}: chunk {chunk_id.hex()} has {len(chunk)} bytes, not {length} as its list says.")
        return chunk

    @functools.cache
    def id_key(self, kind, domain):
        if not self.roots[kind]:
            raise Bad("This key slot does not hold the secret that chunks are checked with.")
        return derive("lifeboat 1 chunk id", self.roots[kind] + bytes([kind - 2]) + domain.to_bytes(4, "little"))

    @functools.lru_cache(maxsize=32)
    def content(self, segment):
        """{chunk id: chunk} of a segment. A segment that fails is not tried again."""
        try:
            return self.open_segment(segment, segment.what, segment.pack.kind)
        except FAILURES:
            self.bad.add(segment)
            raise

    def open_segment(self, segment, what, kind):
        self.check_pack(segment.pack)
        with open(os.path.join(self.root, segment.pack.name), "rb") as file:
            file.seek(segment.offset)
            sealed = file.read(segment.length)
        key = derive("lifeboat 1 segment", self.run_key(segment.envelope, kind - 2))
        bound = b"lifeboat 1 segment" + self.family + bytes([kind, segment.codec]) + digest(segment.ids)
        content = open_aead(key, sealed[:24], bound, sealed[24:], what)
        if segment.codec:
            content = decompress(content, self.base(segment, what, kind) if segment.codec == 2 else b"", what)
        ids = [segment.ids[at : at + 16] for at in range(0, len(segment.ids), 16)]
        return dict(zip(ids, split_content(content, len(ids), what)))

    def check_pack(self, pack):
        """Checks a pack's final hash, once. What is wrong is reported only: each segment is sealed for itself, and
        intact ones can be used."""
        if pack.checked:
            return
        pack.checked = True
        name, hasher = os.path.join(self.root, pack.name), blake3()
        with open(name, "rb") as file:
            area_length, area_hash = pack.area or (0, digest(b""))
            for end in (area_length, os.path.getsize(name) - 32):
                while file.tell() < end:
                    hasher.update(file.read(min(4 * MIB, end - file.tell())))
                if end == area_length and hasher.digest() != area_hash:
                    say("Error", f"Object {pack.name}: its directory is of other segments. Those that fit are used.")
            final = file.read()
        if hasher.digest() != final or final != pack.id:
            say("Error", f"Object {pack.name} is damaged: its final hash does not fit. Its intact segments are used.")

    def base(self, segment, what, kind):
        """The text that a segment of codec 2 rests on."""
        cur, text, pieces = Cursor(segment.base[1:], f"{what}: its base"), b"", 0
        while cur.left():
            first, skip, count, check = cur.take(16), cur.varint(), cur.varint(), cur.take(8)
            pieces += 1
            if not count or pieces > MAX_PIECES:
                raise Bad(f"{cur.what} has a piece that is wrong.")
            text += self.piece(segment, first, skip, count, check, kind, cur.what)
            if len(text) > MAX_BASE:
                raise Bad(f"{cur.what} is too long.")
        if not pieces:
            raise Bad(f"{cur.what} has no piece.")
        return text

    def piece(self, segment, first, skip, count, check, kind, what):
        """The text of a base's piece, from the first lower segment that has it whole."""
        while True:
            for below in self.table[kind, segment.domain].get(first, ()):
                ids = below.meant(skip, count)
                if (below in self.bad or below.height >= segment.height or below.ids[:16] != first
                        or len(ids) != 16 * count or digest(ids)[:8] != check):
                    continue
                try:
                    content = self.content(below)
                    return b"".join(content[ids[at : at + 16]] for at in range(0, len(ids), 16))
                except FAILURES as error:
                    say("Error", str(error))
            if not self.sources:
                raise Bad(f"{what} is in none of the packs that can be read.")
            self.sources.pop(0)()

    # ---- streams (section 5)

    def items(self, reference, kind, domain, what):
        """[(chunk id, length)] of a stream's own chunks. `kind` is the kind of pack that they are in."""
        ref = parse(R_STREAM, reference, what)
        if ref.depth > MAX_DEPTH:
            raise Bad(f"{what}: its list is {ref.depth} levels deep.")
        data = ref.items
        for _ in range(ref.depth):
            data = b"".join(self.chunk(META_PACK, domain, i, length) for i, length in read_items(data, what))
        items = read_items(data, what)
        if sum(length for _, length in items) != ref.length:
            raise Bad(f"{what}: its chunks are not as long as the stream.")
        return items

    def stream(self, reference, kind, domain, what):
        for chunk_id, length in self.items(reference, kind, domain, what):
            yield self.chunk(kind, domain, chunk_id, length)


def decompress(data, prefix, what):
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size > MAX_CONTENT:
            raise Bad(f"{what} would be too large when decompressed, or does not say its size.")
        base = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
        return zstandard.ZstdDecompressor(dict_data=base).decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Bad(f"{what} cannot be decompressed: {error}.") from None


def split_content(content, count, what):
    """The chunks of a segment's content."""
    if count == 1:
        return [content]
    size = int.from_bytes(content[-4:], "little") + 4
    if size > len(content):
        raise Bad(f"{what}: its chunk lengths are wrong.")
    cur, body = Cursor(content[len(content) - size : -4], f"{what}: its chunk lengths"), Cursor(content[:-size], what)
    chunks = [body.take(cur.varint()) for _ in range(count)]
    if cur.left() or body.left():
        raise Bad(f"{what}: its chunk lengths do not fit its content.")
    return chunks


def read_items(data, what):
    """The chunks of a chunk list as [(id, length)], without its marks."""
    cur, items = Cursor(data, f"{what}: its chunk list"), []
    while cur.left():
        head = cur.varint()
        if head & 1:
            cur.take(head >> 1)
        elif head >> 1 > MAX_CHUNK:
            raise Bad(f"{cur.what} names a chunk of {head >> 1} bytes.")
        else:
            items.append((cur.take(16), head >> 1))
    return items


# ---------------------------------------------------------------- trees and restore (section 7)

FILE, FOLDER, LINK, FIFO = 1, 2, 3, 4
OTHER = {5: "socket", 6: "block device", 7: "character device"}
UNREADABLE, LIVE = 2, 8  # status bits
PLAIN, DEFLATE, CORRECTIONS, FRAME = 0, 1, 2, 3  # codings of a bundle's parts
MAX_BUNDLES = 4  # bundles in bundles


class Restore:
    def __init__(self, repo, domain):
        self.repo, self.domain, self.links, self.files, self.bytes = repo, domain, {}, 0, 0
        self.root = os.geteuid() == 0

    def entries(self, reference, path):
        """The entries of a folder's tree. One with an unsafe name is refused."""
        what, last = f"The tree of /{shown(path)}", b""
        cur = Cursor(b"".join(self.repo.stream(reference, META_PACK, self.domain, what)) if reference else b"", what)
        while cur.left():
            raw = cur.take(cur.varint())
            entry = attempt(lambda: self.entry(raw, last, what))
            if entry:
                last = entry.name
                yield entry

    def entry(self, raw, last, what):
        entry = parse(R_ENTRY, raw, f"{what}: the entry after {shown(last) or 'its beginning'}")
        name = entry.name
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name or len(name) > 4096:
            raise Bad(f"{what}: the name {shown(name)!r} is unsafe. This item is not restored.")
        if name <= last:
            raise Bad(f"{what} has {shown(name)!r} twice or in the wrong place. This item is not restored.")
        return entry

    def find(self, reference, path):
        """The entry at a path in the tree, and the path of the folder that it is in."""
        parts, at = [part for part in path.split(b"/") if part], b""
        for number, part in enumerate(parts, 1):
            entry = next((e for e in self.entries(reference, at) if e.name == part), None)
            if entry is None or (number < len(parts) and entry.kind != FOLDER):
                raise Bad(f"The snapshot has no {shown(path)}: {shown(part)} is missing in /{shown(at)}, or no folder.")
            if number == len(parts):
                return entry, at
            reference, at = entry.stream, os.path.join(at, part)
        raise Bad("The path to restore is empty.")

    def folder(self, reference, target, path):
        for entry in self.entries(reference, path):
            self.item(entry, target, path)

    def item(self, entry, folder, inside):
        """Restores an entry into a folder; `inside` is that folder's path in the snapshot."""
        target, path = os.path.join(folder, entry.name), os.path.join(inside, entry.name)
        attempt(lambda: self.create(entry, target, path), f"/{shown(path)} is not restored, or not in full: ")

    def create(self, entry, target, path):
        if entry.kind in OTHER:
            return say("Note", f"/{shown(path)} is a {OTHER[entry.kind]} and is left out.")
        if entry.kind not in (FILE, FOLDER, LINK, FIFO):
            raise Bad(f"it is of the unknown kind {entry.kind}.")
        if entry.status & UNREADABLE:
            say("Note", f"/{shown(path)} could not be read at the time of the backup.")
            if entry.kind != FOLDER:
                return None
        if entry.status & LIVE:
            say("Note", f"/{shown(path)} is a file of a live database; its content may not be usable.")
        group = (path.split(b"/")[0], entry.kind, entry.link)
        if entry.link and group in self.links:
            return os.link(self.links[group], target, follow_symlinks=False)
        if entry.kind == FILE and entry.bundle:
            return self.bundle(entry, target, path)
        if entry.kind == FILE:
            self.file(entry, target, path)
        elif entry.kind == FOLDER:
            os.mkdir(target, 0o700)
            try:
                self.folder(entry.stream, target, path)
            finally:
                self.metadata(entry, target, path)
            return None
        elif entry.kind == LINK:
            os.symlink(entry.target, target)
        else:
            os.mkfifo(target, 0o600)
        self.metadata(entry, target, path)
        if entry.link:
            self.links[group] = target
        return None

    def bundle(self, entry, target, path, depth=0):
        """Gives back a file that was taken apart. What was packed by deflate can be packed again as it was only by Lifeboat
        itself (crate preflate-rs 0.7); then there is a folder beside where the file would be, with its parts unpacked."""
        parts = list(self.parts(entry, path))
        if all(part.coding == PLAIN and not child.bundle for child, part in parts if part.coding != FRAME):
            return self.plain_bundle(entry, parts, target, path)
        folder = target + b".parts"
        os.mkdir(folder, 0o700)
        for child, part in parts:
            if part.coding == CORRECTIONS or not child.size:
                continue
            label = part.label.replace(b"/", b"_")[-100:] if part.coding != FRAME else b"frame"
            name = child.name + (b"-" + label if label and b"\0" not in label else b"")
            at = os.path.join(folder, name)
            if child.bundle and depth < MAX_BUNDLES:
                attempt(lambda: self.bundle(child, at, os.path.join(path, name), depth + 1), f"/{shown(path)}: ")
            else:
                attempt(lambda: self.file(child, at, os.path.join(path, name)), f"/{shown(path)}: ")
        say("Note", f"/{shown(path)} was packed by deflate. This reader cannot pack it again to the same bytes; what was in "
                    f"it is in {shown(folder)}, unpacked, in order. `lifeboat restore` gives the file back as it was.")
        return None

    def parts(self, entry, path):
        for child in self.entries(entry.bundle, path):
            if not child.part or child.kind != FILE:
                raise Bad(f"/{shown(path)} has a part that is none.")
            part = parse(R_PART, child.part, f"A part of /{shown(path)}")
            if part.coding > FRAME:
                raise Bad(f"/{shown(path)} has a part of the unknown coding {part.coding}.")
            yield child, part

    def plain_bundle(self, entry, parts, target, path):
        """A bundle of parts that are stored as they are: the frame's bytes, and theirs, in turn."""
        what, frame, written = f"The content of /{shown(path)}", b"", 0
        try:
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                for child, part in parts:
                    if part.coding == FRAME:
                        frame = b"".join(self.pieces(child, what))
                        continue
                    lead, frame = frame[: part.lead], frame[part.lead :]
                    written += file.write(lead)
                    for piece in self.pieces(child, what):
                        written += file.write(piece)
            if written != entry.size or frame:
                raise Bad(f"{what} has {written} bytes, not {entry.size}.")
        except FAILURES as error:
            if not isinstance(error, FileExistsError):
                os.unlink(target)
            raise
        self.files, self.bytes = self.files + 1, self.bytes + written
        self.metadata(entry, target, path)
        if entry.link:
            self.links[path.split(b"/")[0], entry.kind, entry.link] = target

    def pieces(self, entry, what):
        """The chunks of a file's content."""
        if entry.chunk:
            return (self.repo.chunk(*c) for c in [(DATA_PACK, self.domain, entry.chunk, entry.size)])
        return self.repo.stream(entry.stream, DATA_PACK, self.domain, what) if entry.stream else ()

    def file(self, entry, target, path):
        """Writes a file's content. If some of it is missing, the file is removed again."""
        what, written = f"The content of /{shown(path)}", 0
        pieces = self.pieces(entry, what)
        try:
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                for piece in pieces:
                    written += file.write(piece)
            if written != entry.size:
                raise Bad(f"{what} has {written} bytes, not {entry.size}.")
        except FAILURES as error:
            if not isinstance(error, FileExistsError):
                os.unlink(target)
            raise
        self.files, self.bytes = self.files + 1, self.bytes + written

    def metadata(self, entry, target, path):
        """Owner, extended attributes, mode, times: in this order, because each may change what was set before."""
        if self.root:
            os.chown(target, entry.user, entry.group, follow_symlinks=False)
        for raw in entry.xattrs:
            xattr = parse(R_XATTR, raw, f"/{shown(path)}: an extended attribute")
            try:
                os.setxattr(target, xattr.name, xattr.value, follow_symlinks=False)
            except (OSError, AttributeError) as error:
                cause = getattr(error, "strerror", "not known here")
                say("Note", f"The extended attribute {shown(xattr.name)} cannot be set here and is left out: {cause}.")
        if entry.kind != LINK:
            os.chmod(target, entry.mode & 0o7777)
        time_ns = entry.mtime * 10**9 + entry.mtime_ns
        os.utime(target, ns=(time_ns, time_ns), follow_symlinks=False)


# ---------------------------------------------------------------- commands


def list_snapshots(repo):
    read = [attempt(lambda: repo.read_snapshot(name)) for name in repo.confirmed()]
    print(f"{'id':32}  {'time (UTC)':19}  {'files':>9}  {'bytes':>16}  app")
    for s in sorted((s for s in read if s), key=lambda s: s.started):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(s.started / 1000))
        print(f"{s.id.hex()}  {when}  {s.files:9}  {s.bytes:16}  {shown(s.app)}")


def restore_snapshot(repo, prefix, target, path):
    names = repo.confirmed(prefix.lower())
    if len(names) != 1:
        raise Bad(f"{len(names) or 'No'} confirmed snapshots have an id that begins with {shown(prefix)}.")
    snapshot = repo.read_snapshot(names[0])
    target = os.fsencode(target)
    if os.path.lexists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise Bad(f"{shown(target)} is not an empty folder. Nothing was restored.")
    os.makedirs(target, 0o700, exist_ok=True)
    job = Restore(repo, snapshot.domain)
    if path is None:
        job.folder(snapshot.root, target, b"")
    else:
        entry, inside = job.find(snapshot.root, os.fsencode(path))
        job.item(entry, target, inside)
    print(f"Restored {job.files} files with {job.bytes} bytes to {shown(target)}; {len(said['Error'])} errors.")


def self_check():
    """Vectors of RFC 9180 (A.2.1) and of BLAKE3 (test_vectors.json, length 0)."""
    h = bytes.fromhex
    plain = hpke_open(h("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"),
                      h("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"),
                      b"Ode on a Grecian Urn", b"Count-0",
                      h("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"),
                      "The vector of RFC 9180")
    results = [plain == b"Beauty is truth, truth beauty",
               digest(b"") == h("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
               blake3(b"", key=b"whats the Elvish word for friend").digest() ==
               h("92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"),
               derive("BLAKE3 2019-12-27 16:29:52 test vectors context", b"") ==
               h("2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d")]
    if not all(results):
        raise Bad(f"The cryptography does not fit its test vectors: {results}.")
    print("The cryptography fits its test vectors.")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--passphrase-file", metavar="FILE")
    secret.add_argument("--key-file", metavar="FILE")
    secret.add_argument("--recovery-key", metavar="TEXT")
    parser.add_argument("--no-index", action="store_true")
    parser.add_argument("repo", metavar="REPO")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    restore = commands.add_parser("restore")
    restore.add_argument("snapshot", metavar="SNAPSHOT")
    restore.add_argument("target", metavar="TARGET")
    restore.add_argument("path", metavar="PATH", nargs="?")
    return parser.parse_args()


def the_secret(args):
    if args.key_file:
        return key_file(args.key_file)
    if args.recovery_key:
        return recovery_key(args.recovery_key)
    if args.passphrase_file:
        with open(args.passphrase_file, "rb") as file:
            return passphrase(file.read())
    try:
        return passphrase(getpass.getpass("Passphrase: ").encode())
    except EOFError:
        raise Bad("No passphrase was given.") from None


def run():
    if sys.argv[1:] == ["--self-check"]:
        return self_check()
    args = arguments()
    if not os.path.isdir(args.repo):
        raise Bad(f"{args.repo} is not a folder.")
    repo = Repository(args.repo, the_secret(args), not args.no_index)
    if args.command == "list":
        return list_snapshots(repo)
    return restore_snapshot(repo, args.snapshot, args.target, args.path)


if __name__ == "__main__":
    sys.setrecursionlimit(20000)  # for folders in folders
    attempt(run)
    sys.exit(1 if said["Error"] else 0)
