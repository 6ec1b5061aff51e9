#!/usr/bin/env python3
"""A second implementation of the ledger format, version SEALST01.

It shares nothing with the Go package but docs/ledger-format.md: Python's standard
library, and openssl for AES. It computes every byte of vectors.json and ledgers.json
again, and judges each record of rejects.json. Exit status 0: all as the files say.

    python3 ledger/testdata/check.py
"""
import base64
import hashlib
import hmac
import json
import os
import re
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ZERO16, ZERO32 = bytes(16), bytes(32)
OUT_OF_RANGE = -(1 << 63)
MAX_TIME = 9_223_372_036_854


class Reject(Exception):
    """What is wrong, as the word that rejects.json uses for it."""


def need(ok, what):
    if not ok:
        raise Reject(what)


def sha(b):
    return hashlib.sha256(b).digest()


def unhex(s):
    return None if s is None else bytes.fromhex(s)


# --- sections 1 to 4 of the format ---------------------------------------------------

def nullable(x):
    return b"\xff\xff\xff\xff" if x is None else struct.pack(">I", len(x)) + x


def frame(key, headers, value):
    out = nullable(key) + struct.pack(">I", len(headers))
    for name, val in headers:
        out += struct.pack(">I", len(name)) + name + nullable(val)
    return out + nullable(value)


def commit(salt, fr):
    return sha(b"SEALST01/payload" + salt + fr)


def leaf_hash(statement):
    return sha(b"\0" + statement)


def ledger_id(body):
    return sha(b"SEALST01/genesis" + body)[:16]


def salt_of(master, lid, key_id, seq):
    sub = hmac.new(master, b"SEALST01/saltkey" + lid + struct.pack(">I", key_id), hashlib.sha256).hexdigest()
    block = bytes(8) + struct.pack(">Q", seq)
    return subprocess.run(["openssl", "enc", "-aes-256-ecb", "-nopad", "-K", sub],
                          input=block, stdout=subprocess.PIPE, check=True).stdout


def event_id(headers):
    ids = [v for n, v in headers if n == b"ce_id"]
    uuid = rb"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    if len(ids) != 1 or ids[0] is None or not re.fullmatch(uuid, ids[0]):
        return ZERO16
    return bytes.fromhex(ids[0].replace(b"-", b"").decode())


def statement(f):
    out = b"SEALST01" + struct.pack(">BBHI", f["kind"], 1, f["flags"], f["partition"])
    out += f["ledger"] + struct.pack(">Q", f["seq"]) + f["prev"]
    out += struct.pack(">qi", f["time"], f["epoch"]) + bytes(4) + f["topic"]
    out += struct.pack(">Q", f["offset"]) + f["event_id"] + bytes(32) + f["commitment"]
    return out + bytes(4) + struct.pack(">I", f["salt_key"])


def parse_statement(b):
    need(len(b) == 200, "seal")
    need(b[:8] == b"SEALST01", "version tag")
    need(b[9] == 1, "suite")
    need(not any(b[84:88] + b[128:160] + b[192:196]), "reserved bytes")
    f = dict(kind=b[8], ledger=b[16:32], prev=b[40:72], topic=b[88:104], event_id=b[112:128], commitment=b[160:192])
    f["flags"], f["partition"] = struct.unpack(">HI", b[10:16])
    f["seq"], f["offset"] = struct.unpack(">Q", b[32:40])[0], struct.unpack(">Q", b[104:112])[0]
    f["time"], f["epoch"] = struct.unpack(">qi", b[72:84])
    f["salt_key"] = struct.unpack(">I", b[196:200])[0]
    need(f["kind"] in (1, 2, 3), "kind")
    need(f["flags"] & ~3 == 0, "flags")
    need(f["partition"] < 1 << 31, "source partition")
    need(f["seq"] < 1 << 63 and (f["seq"] == 0) == (f["kind"] == 1), "seq")
    need(f["seq"] > 0 or f["prev"] == ZERO32, "prev")
    need(abs(f["time"]) <= MAX_TIME or f["time"] == OUT_OF_RANGE, "record timestamp")
    need(f["topic"] != ZERO16, "source topic id")
    need(f["offset"] < 1 << 63, "source offset")
    if f["kind"] != 2:
        need(f["flags"] & 1 == 0, "flags")
        need(f["time"] == -1, "record timestamp")
        need(f["epoch"] == -1, "source leader epoch")
        need(f["event_id"] == ZERO16, "event-id slot")
        need(f["salt_key"] == 0, "salt key id")
    elif f["event_id"] != ZERO16:
        need(f["flags"] & 2 and f["salt_key"], "event-id slot")
        need(f["event_id"][6] >> 4 in (4, 7) and f["event_id"][8] >> 6 == 2, "event-id slot")
    return f


GENESIS = re.compile(
    r"sealstream/genesis/v1\n"
    r"name (?P<name>[a-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._~-]+)*)\n"
    r"cluster (?P<cluster>[A-Za-z0-9._-]{1,128})\n"
    r"source (?P<source>[A-Za-z0-9._-]{1,249})\n"
    r"source-id (?P<topic>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\n"
    r"partition (?P<partition>0|[1-9][0-9]*)\n"
    r"start (?P<start>0|[1-9][0-9]*)\n"
    r"fields (?P<fields>none|event-id)\n"
    r"previous (?P<previous>none|[0-9a-f]{32} [1-9][0-9]* [A-Za-z0-9+/]{43}=)\n")


def parse_genesis(body):
    m = GENESIS.fullmatch(body.decode("latin-1"))
    need(m and len(m["name"]) <= 200 and m["source"] not in (".", ".."), "genesis body")
    g = dict(topic=bytes.fromhex(m["topic"].replace("-", "")), partition=int(m["partition"]), start=int(m["start"]),
             flags=2 if m["fields"] == "event-id" else 0, previous=None)
    need(g["topic"] != ZERO16 and g["partition"] < 1 << 31 and g["start"] < 1 << 63, "genesis body")
    if m["previous"] != "none":
        lid, size, leaf = m["previous"].split(" ")
        raw = base64.b64decode(leaf, validate=True)
        need(base64.b64encode(raw).decode() == leaf and int(size) < 1 << 63, "genesis body")
        g["previous"] = (bytes.fromhex(lid), int(size), raw)
    return g


def open_record(record):
    """What can be judged of one sealed record without its neighbours and its commitment."""
    key, value, headers, _ = record
    need(headers and headers[-1][0] == b"seal" and headers[-1][1] is not None, "seal")
    seal, source = headers[-1][1], headers[:-1]
    need(len(seal) in (200, 216), "seal")
    f = parse_statement(seal[:200])
    need((len(seal) == 216) == (f["salt_key"] != 0), "salt")
    if f["kind"] == 2:
        return f, None
    name = b"genesis" if f["kind"] == 1 else b"close"
    need(key is None and value is None, "key or value")
    need(len(source) == 1 and source[0][0] == name and source[0][1] is not None, "headers")
    g = parse_genesis(source[0][1])
    need(f["partition"] == g["partition"], "source partition")
    if f["kind"] == 1:
        need(f["ledger"] == ledger_id(source[0][1]), "ledger id")
        need(f["topic"] == g["topic"], "source topic id")
        need(f["offset"] == g["start"], "source offset")
        need(f["flags"] == g["flags"], "flags bit 1")
    else:
        need(g["previous"] == (f["ledger"], f["seq"], f["prev"]), "previous")
    return f, g


class Partition:
    """The records of one sealed partition, in order; take raises Reject at the first that is wrong."""

    def __init__(self):
        self.genesis = self.head = self.leaf = self.announced = None
        self.salt_key = 0

    def take(self, record):
        key, value, headers, time = record
        f, g = open_record(record)
        seal, source = headers[-1][1], headers[:-1]
        need(f["time"] in (time, OUT_OF_RANGE), "record timestamp")
        need(commit(seal[200:] or ZERO16, frame(key, source, value)) == f["commitment"], "commitment")
        if f["kind"] == 1:
            need(self.head is None or self.announced == source[0][1], "genesis")
            self.genesis, self.announced, self.salt_key = g, None, 0
        else:
            need(self.genesis is not None, "seq")
            self.follow(f, source)
        self.head, self.leaf = f, leaf_hash(seal[:200])

    def follow(self, f, source):
        g, h = self.genesis, self.head
        need(self.announced is None, "close")
        need(f["ledger"] == h["ledger"], "ledger id")
        need(f["seq"] == h["seq"] + 1, "seq")
        need(f["prev"] == self.leaf, "prev")
        need(f["partition"] == g["partition"], "source partition")
        need(f["topic"] == g["topic"], "source topic id")
        need(f["flags"] & 2 == g["flags"], "flags bit 1")
        after = h["offset"] + (h["kind"] == 2)
        if f["kind"] == 3:
            need(f["offset"] == after, "source offset")
            self.announced = source[0][1]
            return
        need(f["offset"] >= after, "source offset")
        need(f["salt_key"] >= self.salt_key, "salt key id")
        self.salt_key = f["salt_key"]
        want = event_id(source) if f["flags"] & 2 and f["salt_key"] else ZERO16
        need(f["event_id"] == want, "event-id slot")


# --- the files -----------------------------------------------------------------------

def load(name):
    with open(os.path.join(HERE, name), encoding="ascii") as f:
        return json.load(f)


def headers_of(r):
    return [(unhex(n), unhex(v)) for n, v in r["Headers"] or []]


def root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha(b"\1" + root(leaves[:k]) + root(leaves[k:]))


def check_ledger(body, want_id, masters, records, partition):
    """Computes a ledger from its source records, compares each byte, and judges the result."""
    g, lid = parse_genesis(body), ledger_id(body)
    assert lid.hex() == want_id, "ledger id"
    prev, leaves = ZERO32, []
    for seq, r in enumerate(records):
        headers, key, value = headers_of(r), unhex(r["Key"]), unhex(r["Value"])
        fr = frame(key, headers, value)
        assert fr.hex() == r["Frame"], (r["Name"], "frame")
        salt = salt_of(masters[r["SaltKey"]], lid, r["SaltKey"], seq) if r["SaltKey"] else ZERO16
        assert salt.hex() == r["Salt"], (r["Name"], "salt")
        c = commit(salt, fr)
        assert c.hex() == r["Commit"], (r["Name"], "commitment")
        eid = event_id(headers) if g["flags"] and r["SaltKey"] else ZERO16
        st = statement(dict(kind=int(r["Kind"]), flags=r["Flags"], partition=g["partition"], ledger=lid, seq=seq, prev=prev,
                            time=r["TimeMs"], epoch=r["Epoch"], topic=g["topic"], offset=r["Offset"], event_id=eid,
                            commitment=c, salt_key=r["SaltKey"]))
        assert st.hex() == r["Stmt"], (r["Name"], "statement")
        prev = leaf_hash(st)
        assert prev.hex() == r["Leaf"], (r["Name"], "leaf")
        leaves.append(prev)
        seal = st + (salt if r["SaltKey"] else b"")
        time = -1 if r["TimeMs"] == OUT_OF_RANGE else r["TimeMs"]
        partition.take((key, value, headers + [(b"seal", seal)], time))
    return root(leaves)


def refused_alone(r):
    try:
        open_record((unhex(r["Key"]), unhex(r["Value"]), headers_of(r), r["TimeMs"]))
    except Reject:
        return True
    return False


def main():
    v = load("vectors.json")
    top = check_ledger(v["body"].encode(), v["ledger"], {1: unhex(v["saltmaster"])}, v["records"], Partition())
    print("vectors.json:", len(v["records"]), "statements, root", top.hex())
    for p in load("ledgers.json"):
        masters = {int(k): unhex(m) for k, m in p["saltmasters"].items()}
        partition = Partition()
        for led in p["ledgers"]:
            top = check_ledger(led["body"].encode(), led["ledger"], masters, led["records"], partition)
            assert top.hex() == led["root"], (p["name"], "root")
            print("ledgers.json:", p["name"], len(led["records"]), "statements, root", top.hex())
    d = load("rejects.json")
    for case in d["cases"]:
        partition = Partition()
        records = d["bases"][case["base"]] + case["records"]
        for n, r in enumerate(records):
            try:
                partition.take((unhex(r["Key"]), unhex(r["Value"]), headers_of(r), r["TimeMs"]))
            except Reject as e:
                assert n == len(records) - 1 and str(e) == case["field"], (case["name"], n, str(e))
                assert refused_alone(r) == case["alone"], (case["name"], "alone")
                break
        else:
            raise AssertionError(case["name"] + ": taken")
    print("rejects.json:", len(d["cases"]), "records refused, each for its reason")


if __name__ == "__main__":
    sys.exit(main())
