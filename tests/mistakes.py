"""Mistakes that the headers do not have, and that tests of them have to find."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from test_interleavings import build, run

from arenads import compiler


@dataclass(frozen=True)
class Mistake:
    """Texts of the headers replaced by others: each must be there exactly once.

    White space counts as one space.
    """

    name: str
    group: str  # of the explorer's scenarios, or the beginning of some
    changes: dict[str, str]

    def __str__(self) -> str:
        return self.name


MISTAKES = (
    Mistake(
        "nobody finishes the claim of a pool's last chunk",
        "pool",
        {
            "if (carved >> 32 >= p->capacity) { ads_chunk_finish(a, pool, (__u32)carved);"
            " break; }": ("if (carved >> 32 >= p->capacity) break;")
        },
    ),
    Mistake(
        "a walk does not look again whether its way has changed",
        "map",
        {"if (ADS_UNLIKELY(ads_load(ads_link_of(a, w->prev)) != w->prev_link)) {": "if (0) {"},
    ),
    Mistake(
        "the version of a link stays",
        "map",
        {"(((link >> 32) + 1) << 33 >> 1)": "((link >> 32) << 33 >> 1)"},
    ),
    Mistake(
        "deleted entries pass for live ones",
        "map",
        {"if (ADS_LIKELY(!(w->link & ADS_LINK_MARK)))": "if (1)"},
    ),
    Mistake(
        "an entry is published before it is filled",
        "map",
        {
            "ads_copy_in(a, entry + ads_entry_value_offset(ref), value, ref.value_size);": (
                "(void)value;"
            ),
            "*entry = w->held; ads_hand_clear(a); return ADS_OK; } } else {": (
                "*entry = w->held; ads_copy_in(a, w->held + ads_entry_value_offset(ref), value, "
                "ref.value_size); return ADS_OK; } } else {"
            ),
        },
    ),
    Mistake(
        "an entry that is kept for the next of a row is in no hand",
        "map-rows",
        {"ads_hand_take(a, ads_pool_of(ref).offset, entry, ads_link_later(was));": ""},
    ),
    Mistake(
        "an entry that is kept for the next of a row still passes for one that was deleted",
        "map-rows",
        {"ads_store_release(link, ads_link_set_state(was, ADS_LINK_TAKEN)); /* R3: as when": "/*"},
    ),
    Mistake(
        "a value is not looked at again after it was copied",
        "map-programs",
        {"return ads_load(ads_link_of(a, w->entry)) == w->link; }": "return 1; }"},
    ),
    Mistake(
        "a key is not looked at again after it was compared",
        "map-programs",
        {
            "if (ads_load(ads_link_of(a, w->entry)) != w->link) continue; /* deleted or "
            "reused under us: look again */": ""
        },
    ),
    Mistake(
        "delete unlinks without marking: the commit is elsewhere",
        "map",
        {
            "if (ads_cas(ads_link_of(a, w.entry), w.link, ads_link_change(w.link, "
            "ads_link_next(w.link)) | ads_deleted_bits()) == w.link) { deleted = w.entry; if "
            "(ads_walk_unlink(a, &w, ads_link_next(w.link))) break; }": (
                "if (ads_cas(ads_link_of(a, w.prev), w.prev_link, ads_link_change(w.prev_link, "
                "ads_link_next(w.link))) == w.prev_link) { ads_store(ads_link_of(a, w.entry), "
                "ads_link_change(w.link, 0) | ADS_LINK_MARK); deleted = w.entry; break; }"
            )
        },
    ),
    Mistake(
        "replace marks first and links then: two commits",
        "map",
        {
            "if (ads_cas(ads_link_of(a, w->entry), w->link, ads_link_change(w->link, w->held) |"
            " ads_deleted_bits()) == w->link) {": (
                "__u64 marked = ads_link_change(w->link, ads_link_next(w->link)) | ADS_LINK_MARK;"
                " if (ads_cas(ads_link_of(a, w->entry), w->link, marked) == w->link) { "
                "ads_store(ads_link_of(a, w->entry), ads_link_change(marked, w->held) | "
                "ADS_LINK_MARK);"
            )
        },
    ),
    Mistake(
        "who fails to unlink an entry frees it all the same",
        "map",
        {
            "if (ads_walk_unlink(a, &w, ads_link_next(w.link))) break;": (
                "ads_walk_unlink(a, &w, ads_link_next(w.link)); break;"
            )
        },
    ),
    Mistake(
        "an entry is freed by who unlinks it too",
        "map",
        {"w->prev_link = past; }": "w->prev_link = past; ads_pool_retire(a, pool, 0, w->entry); }"},
    ),
    Mistake(
        "a replaced entry that somebody else unlinks is forgotten",
        "map",
        {"replaced = w->entry; rc": "replaced = 0; rc"},
    ),
    Mistake(
        "an entry taken for replacing is used for inserting",
        "map-programs",
        {"if (w->held && made_to_replace && rc == ADS_ABSENT) {": "if (0) {"},
    ),
    Mistake(
        "an iteration that was disturbed starts over",
        "map",
        {"if (s->started && w->hash <= s->hash) {": "if (0) {"},
    ),
    Mistake(
        "a walk stops at shortcuts that were linked after it began",
        "map",
        {"if (first > hash) return 0;": "return 0;"},
    ),
    Mistake(
        "two actors link one shortcut",
        "map",
        {"if (!owner) return ADS_EXISTS;": ""},
    ),
    Mistake(
        "a shortcut is used before it is linked",
        "map",
        {"return (__u32)link && !(link & ADS_LINK_PENDING);": "return (__u32)link;"},
    ),
    Mistake(
        "a stack does not count its versions",
        "pool-frees",
        {
            "__u64 taken = (((top >> 32) + 1) << 32) | entry | ADS_TOP_TAKEN;": (
                "__u64 taken = ((top >> 32) << 32) | entry | ADS_TOP_TAKEN;"
            ),
            "ads_cas(&shard->free, top, (((top >> 32) + 1) << 32) | (__u32)below); /* R2": (
                "ads_cas(&shard->free, top, ((top >> 32) << 32) | (__u32)below); /* R2"
            ),
            "(((top >> 32) + 1) << 32) | (__u32)below) == top": (
                "((top >> 32) << 32) | (__u32)below) == top"
            ),
            "(((top >> 32) + 1) << 32) | entry | (ads_by_user()": (
                "((top >> 32) << 32) | entry | (ads_by_user()"
            ),
        },
    ),
    Mistake(
        "a chunk is claimed though another one has come",
        "pool",
        {"if ((claim & 3) == ADS_BLOCK_CHUNK) return ads_load": "if (0) return ads_load"},
    ),
    Mistake(
        "the cursor moves before the chunk is where it belongs",
        "pool",
        {
            "ads_cas(&root->cursor, at, at + bytes); /* R1 */": "",
            "if ((word & 3) == ADS_BLOCK_CHUNK) { struct ads_pool __arena *p": (
                "ads_cas(&root->cursor, at, at + bytes); if ((word & 3) == ADS_BLOCK_CHUNK) { "
                "struct ads_pool __arena *p"
            ),
        },
    ),
    Mistake(
        "inserts take spare entries",
        "map",
        {"if (!got && replacing)": "if (!got)"},
    ),
    Mistake(
        "who returns an entry takes it for known that there are spare ones",
        "map",
        {"return ads_load(&shard->free) == ads_load(&shard->enough);": "return 1;"},
    ),
    Mistake(
        "the depth of a stack may be stale",
        "map-programs",
        {"return ads_load(&shard->free) == top ? -1 : 0;": "return -1;"},
    ),
    Mistake(
        "the length is made of depths that may be stale",
        "map-length",
        {
            "available = was; /* its depths were read between the two readings of the tops "
            "*/": "(void)was;"
        },
    ),
    Mistake(
        "an object is freed without a look at who was first",
        "pool-frees",
        {
            "if (ads_cas(link, word, ads_link_set_state(word, ads_by_user() ? ADS_LINK_TAKEN : 0)) "
            "!= word) {": (
                "ads_store(link, ads_link_set_state(word, ads_by_user() ? ADS_LINK_TAKEN : 0)); "
                "if (0) {"
            )
        },
    ),
    Mistake(
        "a reaper does not look again at what another has let go of",
        "pool-reaping",
        {"if (ads_load(ads_link_of(a, entry)) != link) return ADS_LOST;": ""},
    ),
    Mistake(
        "a removed node is linked again while it is still in its list",
        "intrusive",
        {
            "return !link || (link & ADS_LINK_MARK && !ads_link_next(link));": (
                "return !link || (link & ADS_LINK_MARK);"
            )
        },
    ),
    Mistake(
        "a node is out before it is unlinked",
        "intrusive",
        {
            "if (ads_walk_unlink(a, w, next)) ads_cas(ads_link_of(a, w->entry), marked, "
            "ads_link_change(marked, 0) | ADS_LINK_MARK);": (
                "ads_cas(ads_link_of(a, w->entry), marked, ads_link_change(marked, 0) | "
                "ADS_LINK_MARK); if (ads_walk_unlink(a, w, next)) return 1;"
            )
        },
    ),
    Mistake(
        "a node that was not unlinked is out all the same",
        "intrusive",
        {
            "if (ads_walk_unlink(a, w, next)) ads_cas(ads_link_of(a, w->entry), marked, "
            "ads_link_change(marked, 0) | ADS_LINK_MARK);": (
                "ads_walk_unlink(a, w, next); if (1) ads_cas(ads_link_of(a, w->entry), marked, "
                "ads_link_change(marked, 0) | ADS_LINK_MARK);"
            )
        },
    ),
    Mistake(
        "two actors claim one node",
        "intrusive",
        {
            "if (ads_cas(&n->link, link, ads_link_change(link, low)) == link) {": (
                "ads_store(&n->link, ads_link_change(link, low)); if (1) {"
            )
        },
    ),
    Mistake(
        "the versions of a node begin anew when it is linked again",
        "intrusive",
        {"ads_link_change(link, low)": "ads_link_change(0, low)"},
    ),
    Mistake(
        "whatever has the order of a node is removed in its place",
        "intrusive",
        {"if (rc == ADS_OK && w.entry != node) rc = ADS_ABSENT;": ""},
    ),
    Mistake(
        "a node that another has just linked stands in its own way",
        "intrusive",
        {"rc = w.entry == node ? ADS_LINKED : ADS_EXISTS;": "rc = ADS_EXISTS;"},
    ),
    Mistake(
        "a node gets its order after it is linked",
        "intrusive",
        {
            "ads_store(&n->order, *order);": "",
            "ads_link_change(w.prev_link, node)) == w.prev_link) {": (
                "ads_link_change(w.prev_link, node)) == w.prev_link) { ads_store(&n->order, "
                "*order);"
            ),
        },
    ),
    Mistake(
        "a reaper takes a node away from a BPF program",
        "intrusive",
        {"if (!(ads_link_next(link) & ADS_LINK_USER)) return 0;": ""},
    ),
    Mistake(
        "a reaper takes a node that was linked before the death",
        "intrusive",
        {"if (rc == ADS_OK && w.entry == node) return 0;": ""},
    ),
    Mistake(
        "a thread does not tell which node it links",
        "intrusive",
        {
            "ads_hand_take(a, ads_pool_of(ref).offset, ads_node_entry(a, ref, node), "
            "ads_link_later(link));": ""
        },
    ),
    Mistake(
        "a node is said to be out though it has been linked again meanwhile",
        "intrusive",
        {
            "ads_cas(&n->link, link, ads_link_change(link, 0) | ADS_LINK_MARK); /* R3 */ return": (
                "ads_store(&n->link, ads_link_change(link, 0) | ADS_LINK_MARK); return"
            )
        },
    ),
    Mistake(
        "a record is published before it is written",
        "queue",
        {
            "ads_copy_in(a, slot, value, ref.value_size);": "",
            "ads_store_release(&ring->tail, tail + 1); /* R4. Commit. */": (
                "ads_store_release(&ring->tail, tail + 1); ads_copy_in(a, slot, value, "
                "ref.value_size);"
            ),
        },
    ),
    Mistake(
        "a slot is given up before it is read",
        "queue",
        {
            "ads_copy_out(a, value, slot, ref.value_size); "
            "ads_store_release(&ring->head, head + 1); /* R5. Commit. */": (
                "ads_store_release(&ring->head, head + 1); ads_copy_out(a, value, slot, "
                "ref.value_size);"
            ),
        },
    ),
    Mistake(
        "two chunks are claimed for one number of an array",
        "array",
        {
            "return ads_load(ads_at(a, __u64, ads_claim_place(a, claim))) != saw;": (
                "return !ads_is_array(a, owner) && ads_load(ads_at(a, __u64, "
                "ads_claim_place(a, claim))) != saw;"
            )
        },
    ),
    Mistake(
        "there is no memory for a chunk that somebody made of the last",
        "array",
        {
            "if (ads_claim_gone(a, claim, saw, saw_chunk)) return ADS_EXISTS;": "",
            "if (ads_cas(header, 0, claim)) continue;": (
                "if (ads_claim_gone(a, claim, saw, saw_chunk)) return ADS_EXISTS; "
                "if (ads_cas(header, 0, claim)) continue;"
            ),
        },
    ),
    Mistake(
        "the cursor moves before the chunk is in its array",
        "array",
        {
            "ads_cas(&root->cursor, at, at + bytes); /* R1 */": "",
            "if ((word & 3) == ADS_BLOCK_TABLE) { __u32 place = ads_claim_place(a, word);": (
                "ads_cas(&root->cursor, at, at + bytes); if ((word & 3) == ADS_BLOCK_TABLE) { "
                "__u32 place = ads_claim_place(a, word);"
            ),
        },
    ),
    Mistake(
        "a claim for a structure that another has made is passed over",
        "array",
        {
            "if (ads_block_finish(a, (__u32)cursor, word))": (
                "if (!mine && (word & 3) == ADS_BLOCK_TABLE) { ads_cas(&root->cursor, cursor, "
                "cursor + ads_block_bytes(a, word)); continue; } "
                "if (ads_block_finish(a, (__u32)cursor, word))"
            )
        },
    ),
    Mistake(
        "reading an element makes its chunk",
        "array",
        {
            "element = ads_array_chunk(a, ref, index); if (ADS_UNLIKELY(!element)) {": (
                "element = ads_array_chunk(a, ref, index); if (!element) "
                "element = ads_array_touch(a, ref.offset, index >> "
                "ads_array_shift(ref.value_size)) > 0; "
                "if (ADS_UNLIKELY(element < 2)) {"
            )
        },
    ),
    Mistake(
        "a ring publishes a record before it commits it",
        "ring-plain",
        {
            "ads_store(&ads_ring_of(a, ref)->committed, end); return end;": "return end;",
            "end = ads_ring_finish(a, ref, &draft); if (publish) "
            "ads_store_release(&ads_ring_of(a, ref)->tail, end); /* R31. Commit. */": (
                "end = ads_ring_finish(a, ref, &draft); if (publish) "
                "ads_store_release(&ads_ring_of(a, ref)->tail, end); "
                "ads_store(&ads_ring_of(a, ref)->committed, end);"
            ),
        },
    ),
    Mistake(
        "a record of a ring is written after it is published",
        "ring-plain",
        {
            "ads_copy_in(a, ads_ring_place(ref, draft.at, draft.size) + 8, data, length); end": (
                "end"
            ),
            "ads_store_release(&ads_ring_of(a, ref)->tail, end); /* R31. Commit. */ return "
            "ADS_OK; } /* Append": (
                "ads_store_release(&ads_ring_of(a, ref)->tail, end); ads_copy_in(a, "
                "ads_ring_place(ref, draft.at, draft.size) + 8, data, length); return ADS_OK; }"
                " /* Append"
            ),
        },
    ),
    Mistake(
        "a ring's record is given up before it is read",
        "ring-plain",
        {
            "rc = ads_ring_copy_out(a, to, place, *length, room); if (rc) return ads_count(a, "
            "ref.offset, rc); ads_store_release(&ring->head, c.at); /* R32. Commit. */": (
                "ads_store_release(&ring->head, c.at); rc = ads_ring_copy_out(a, to, place, "
                "*length, room); if (rc) return rc;"
            )
        },
    ),
    Mistake(
        "padding takes no room",
        "ring-plain",
        {"return draft->at + need;": "return committed + need;"},
    ),
    Mistake(
        "a reservation outlives the commit of another record",
        "ring-plain",
        {
            "|| draft->ticket != ads_load(&ads_ring_of(a, ref)->committed) + 1) return "
            "ADS_NOT_RESERVED; ads_ring_finish": ") return ADS_NOT_RESERVED; ads_ring_finish"
        },
    ),
    Mistake(
        "a ring writes over its oldest records before it drops them",
        "ring-overwrite",
        {
            "if (end - head <= size) return ADS_OK; if (!(flags & ADS_OVERWRITE))": (
                "if (end - head <= size + 8) return ADS_OK; if (!(flags & ADS_OVERWRITE))"
            )
        },
    ),
    Mistake(
        "a consumer of an overwriting ring does not look who was faster",
        "ring-overwrite",
        {
            "if (ads_cas(&ring->head, word, c.at | (word & ADS_RING_DROPS)) == word) /* R32. "
            "Commit. */ return ADS_OK;": (
                "ads_store_release(&ring->head, c.at | (word & ADS_RING_DROPS)); return ADS_OK;"
            )
        },
    ),
    Mistake(
        "a drop is counted though the consumer was faster",
        "ring-overwrite",
        {
            "if (ads_cas(&ring->head, word, (head + ads_ring_step(bytes)) | drops) == word)": (
                "ads_cas(&ring->head, word, (head + ads_ring_step(bytes)) | drops);"
            )
        },
    ),
    Mistake(
        "a producer that dies leaves a drop that nobody counts",
        "ring-overwrite",
        {
            "drops = (drops + 1) & ADS_RING_DROPS;": "",
            "counted + ((drops - counted) & ADS_RING_DROPS)": "counted + 1",
            "return counted + ((word - counted) & ADS_RING_DROPS);": "return counted;",
        },
    ),
    Mistake(
        "a reader does not look whether the head has passed",
        "ring-overwrite",
        {
            "if (head - c->at - 1 < 1ull << 62 && (rc || head - c->at >= next.at - c->at)) {": (
                "if (0) {"
            )
        },
    ),
    Mistake(
        "an overwriting ring drops what is not published",
        "ring-overwrite",
        {"if (ads_load(&ring->tail) == head) /* all": "if (0) /* all"},
    ),
    Mistake(
        "a ring is taken without a look whether another has it",
        "rings",
        {
            "found = ads_cas(&ads_at(a, struct ads_ring, ring)->producer, 0, name);": (
                "ads_store(&ads_at(a, struct ads_ring, ring)->producer, name); found = 0;"
            )
        },
    ),
    Mistake(
        "a ring is given back before the record is in it",
        "rings",
        {
            "rc = ads_ring_push(a, ref, data, length); ads_rings_leave(a, ref.offset); "
            "return rc;": (
                "ads_rings_leave(a, ref.offset); return ads_ring_push(a, ref, data, length);"
            )
        },
    ),
    Mistake(
        "a ring is given back when a record was reserved",
        "rings",
        {"draft->ring = ref.offset;": "draft->ring = ref.offset; ads_rings_leave(a, ref.offset);"},
    ),
    Mistake(
        "a ring that is full is not given back",
        "rings",
        {"if (rc) { ads_rings_leave(a, ref.offset); return rc; }": "if (rc) return rc;"},
    ),
    Mistake(
        "a reaper leaves a dead thread its ring",
        "rings",
        {"ads_cas(word, name, 0); /* R34 */": ";"},
    ),
    Mistake(
        "a reaper takes a ring from whoever has it",
        "rings",
        {
            "ads_load(word) == name && !ads_reap_has_namesake(a, name)) "
            "ads_cas(word, name, 0); /* R34 */": "ads_load(word)) ads_store(word, 0);"
        },
    ),
    Mistake(
        "a reaper looks at the rings before it knows of a death",
        "rings",
        {
            "if (!who || line == mine || !ads_owner_is_dead(line, who)) continue;": (
                "later = who && line != mine && ads_reap_rings(a, who & ~ADS_OWNER_STATE);"
                " if (!who || line == mine || !ads_owner_is_dead(line, who)) continue;"
            ),
            "later = ads_reap_rings(a, who & ~ADS_OWNER_STATE) != ADS_OK;": "",
        },
    ),
    Mistake(
        "a hint to a key is followed though its entry is deleted",
        "orderedmap",
        {"return same && !(w->link & ADS_LINK_MARK) &&": "return same &&"},
    ),
    Mistake(
        "a hint to a key is followed whatever life its entry is in",
        "orderedmap",
        {
            "return same && !(w->link & ADS_LINK_MARK) && (__u32)ads_load(ads_at(a, __u64, entry "
            "+ pool.life)) + 1 == hint >> 32;": "return same && !(w->link & ADS_LINK_MARK);",
        },
    ),
    Mistake(
        "keys with one order are taken for one key",
        "bytes",
        {
            "order = ads_compare_key(a, w->entry, key, ref); ads_fence_acquire(); /* F13: the "
            "key's words before the link again */ if (ads_load(ads_link_of(a, w->entry)) != "
            "w->link) continue; /* deleted": (
                "order = 0; if (ads_load(ads_link_of(a, w->entry)) != w->link) continue; /* deleted"
            )
        },
    ),
    Mistake(
        "a walk does not look again whether the key was this entry's",
        "bytes",
        {
            "if (ads_load(ads_link_of(a, w->entry)) != w->link) continue; /* deleted or reused "
            "under us: look again */": ""
        },
    ),
    Mistake(
        "what waits is given back without a grace period",
        "grace",
        {"rc = ads_grace_period(a); return rc ? rc : ads_pool_drain": "return ads_pool_drain"},
    ),
    Mistake(
        "a deleted entry does not wait",
        "grace",
        {"waits = retired && p->grace;": "waits = 0;"},
    ),
    Mistake(
        "one of a row keeps what it has replaced though that has to wait",
        "grace",
        {
            "if (kept && (rc == ADS_OK || rc == ADS_ABSENT) && !(ref.flags & ADS_GRACE)) {": (
                "if (kept && (rc == ADS_OK || rc == ADS_ABSENT)) {"
            )
        },
    ),
    Mistake(
        "a BPF program gives back at once what has to wait",
        "grace",
        {"if (flags & (ADS_GRACE | ADS_LIVES) || !ads_pool": "if (flags & ADS_LIVES || !ads_pool"},
    ),
    Mistake(
        "the grace period is over before the epoch moves",
        "grace",
        {
            "rc = ads_pool_seal(a, pool, &epoch); if (rc <= 0) return rc; "
            "rc = ads_grace_period(a); return rc ? rc : ads_pool_drain(a, pool, epoch);": (
                "rc = ads_grace_period(a); if (!rc) rc = ads_pool_seal(a, pool, &epoch); "
                "return rc <= 0 ? rc : ads_pool_drain(a, pool, epoch);"
            )
        },
    ),
    Mistake(
        "younger entries are given back with those that have waited",
        "grace",
        {
            "shard = ads_retired_shard(a, pool, epoch - 1);": (
                "shard = ads_retired_shard(a, pool, epoch);"
            )
        },
    ),
    Mistake(
        "the epoch moves on to a shard with entries that still wait",
        "grace",
        {
            "if (ads_shard_empty(shard)) { shard = ads_retired_shard(a, pool, now);": (
                "{ shard = ads_retired_shard(a, pool, now);"
            )
        },
    ),
    Mistake(
        "the version of a top is raised though somebody has begun to pop it",
        "reclaimers",
        {
            "if (ads_shard_helped(a, shard, top)) continue;"
            " if (ads_cas(&shard->free, top, top + (1ull << 32)) == top)": (
                "if (ads_cas(&shard->free, top, top + (1ull << 32)) == top)"
            )
        },
    ),
    Mistake(
        "who gives back what has waited does not look at the epoch again",
        "reclaimers",
        {"if (ads_load_acquire(&p->epoch) != epoch || !(__u32)top)": "if (!(__u32)top)"},
    ),
    Mistake(
        "a slot has the record before it is written",
        "mpmc",
        {
            "ads_copy_in(a, entry + 16, value, ref.value_size); } /* * Push of user": (
                "(void)value; } /* * Push of user"
            ),
            "== at.word) { ads_mpmc_helped(a, at.slot, pushed); ads_mpmc_passed(a, ref, "
            "ADS_MPMC_TAIL, &at); ads_mpmc_let_go": (
                "== at.word) { ads_copy_in(a, hand.entry + 16, value, ref.value_size); "
                "ads_mpmc_helped(a, at.slot, pushed); ads_mpmc_passed(a, ref, ADS_MPMC_TAIL, &at); "
                "ads_mpmc_let_go"
            ),
            "if (ads_cas(slot, claimed, pushed) == claimed) {": (
                "if (ads_cas(slot, claimed, pushed) == claimed) { "
                "ads_copy_in(a, entry + 16, value, ref.value_size);"
            ),
        },
    ),
    Mistake(
        "a record is copied after it was popped",
        "mpmc",
        {
            "ads_copy_out(a, value, entry + 16, ref.value_size); /* Commit. R41: the record is "
            "copied": "/* Commit. R41: the record is copied",
            "ads_mpmc_passed(a, ref, ADS_MPMC_HEAD, &at);": (
                "ads_copy_out(a, value, entry + 16, ref.value_size); "
                "ads_mpmc_passed(a, ref, ADS_MPMC_HEAD, &at);"
            ),
        },
    ),
    Mistake(
        "two consumers take one record",
        "mpmc",
        {
            "if (ads_cas(ads_at(a, __u64, at.slot), at.word, ads_mpmc_popped(at.word)) "
            "== at.word) {": (
                "ads_store(ads_at(a, __u64, at.slot), ads_mpmc_popped(at.word)); if (1) {"
            )
        },
    ),
    Mistake(
        "two producers take one slot",
        "mpmc",
        {
            "if (ads_cas(ads_at(a, __u64, at.slot), at.word, pushed) == at.word) {": (
                "ads_store(ads_at(a, __u64, at.slot), pushed); if (1) {"
            )
        },
    ),
    Mistake(
        "a claimer does not look whether the slot was filled by another",
        "mpmc",
        {"if (ads_cas(slot, claimed, pushed) == claimed) {": ("ads_store(slot, pushed); if (1) {")},
    ),
    Mistake(
        "two producers claim one slot",
        "mpmc",
        {
            "if (ads_cas(slot, at->word, claimed) != at->word) return 0;": (
                "ads_store(slot, claimed);"
            )
        },
    ),
    Mistake(
        "who fills a claimed slot keeps the claimer's entry",
        "mpmc",
        {
            "if (!ads_mpmc_disown(a, at.slot, at.word)) continue; entry = 0;": (
                "if (!ads_mpmc_disown(a, at.slot, at.word)) continue;"
            )
        },
    ),
    Mistake(
        "who fills a claimed slot does not change the entry's link",
        "mpmc",
        {"if (!ads_mpmc_disown(a, at.slot, at.word)) continue;": ""},
    ),
    Mistake(
        "who changes a claimer's link does not look whether the slot is still claimed",
        "mpmc",
        {
            "if (ads_load(ads_at(a, __u64, slot)) != word) return 0; if (is & ADS_LINK_MARK": (
                "if (is & ADS_LINK_MARK"
            )
        },
    ),
    Mistake(
        "a claimed slot stops producers",
        "mpmc",
        {
            "return full ? ADS_FULL : ADS_OK;": (
                "return full || (__u32)at->word & ADS_MPMC_CLAIMED ? ADS_FULL : ADS_OK;"
            )
        },
    ),
    Mistake(
        "a reaper takes the entry of a living claimer",
        "mpmc",
        {
            "if (ads_reap_contested(a, line, entry)) return ADS_REAP_WAIT; ads_mpmc_revoke": (
                "ads_mpmc_revoke"
            ),
            "if (verdict == ADS_REAP_WAIT || ads_reap_contested(a, line, entry)) return": (
                "if (verdict == ADS_REAP_WAIT) return"
            ),
        },
    ),
    Mistake(
        "a reaper takes the entry of a living claimer that has lost the slot",
        "mpmc",
        {
            "if (verdict == ADS_REAP_WAIT || ads_reap_contested(a, line, entry)) return": (
                "if (verdict == ADS_REAP_WAIT) return"
            )
        },
    ),
    Mistake(
        "a reaper leaves the link as it is of an entry that it takes out of a slot",
        "mpmc",
        {
            "if (ads_mpmc_disown(a, slot, word)) ads_cas(ads_at(a, __u64, slot), word,": (
                "ads_cas(ads_at(a, __u64, slot), word,"
            )
        },
    ),
    Mistake(
        "a spare entry is lent to two programs",
        "mpmc",
        {
            "ads_cas(spare, word, word >> 32 << 32 | ADS_MPMC_LENT) == word) {": (
                "(ads_store(spare, word >> 32 << 32 | ADS_MPMC_LENT), 1)) {"
            )
        },
    ),
    Mistake(
        "a CPU whose spare entry is lent gets another one",
        "mpmc",
        {
            "return !ads_by_user() && !(__u32)word && shard": (
                "return !ads_by_user() && !ads_mpmc_entry(word) && shard"
            )
        },
    ),
    Mistake(
        "two programs give a CPU that has lost its spare entry one each",
        "mpmc",
        {
            "ads_cas(spare, word, ((word >> 32) + 1) << 32 | entry) == word;": (
                "(ads_store(spare, ((word >> 32) + 1) << 32 | entry), 1);"
            )
        },
    ),
    Mistake(
        "the tail moves before the record is in",
        "mpmc",
        {
            "if (!ads_mpmc_fill_slot(a, ref, &at, value, &hand)) continue; "
            "ads_mpmc_passed(a, ref, ADS_MPMC_TAIL, &at);": (
                "ads_mpmc_passed(a, ref, ADS_MPMC_TAIL, &at); "
                "if (!ads_mpmc_fill_slot(a, ref, &at, value, &hand)) continue;"
            )
        },
    ),
    Mistake(
        "a slot that others have passed is taken for a full ring",
        "mpmc",
        {
            "if (ahead == -1) { if (end == ADS_MPMC_TAIL)": (
                "if (ahead == -1 || (ahead == 0 && full)) { if (end == ADS_MPMC_TAIL)"
            )
        },
    ),
    Mistake(
        "who finds the ring full with an entry in hand keeps it",
        "mpmc",
        {
            "} while (ads_again(i)); if (hand.entry) ads_mpmc_let_go(a, ref, &hand, hand.entry);": (
                "} while (ads_again(i));"
            )
        },
    ),
    Mistake(
        "who helps does not look whether the slot is still the same",
        "mpmc",
        {
            "if (ads_load(ads_at(a, __u64, slot)) == word) ads_cas(link, is, ads_link_change(": (
                "ads_cas(link, is, ads_link_change("
            )
        },
    ),
    Mistake(
        "a sweep's lane returns what is of another part",
        "map",
        {"if (ADS_LIKELY(rc == ADS_OK && part == lane->part)) {": "if (rc == ADS_OK) {"},
    ),
    Mistake(
        "a sweep's lane ends at what is of a part before its own",
        "map",
        {"(rc == ADS_OK && part > lane->part)": "(rc == ADS_OK && part != lane->part)"},
    ),
    Mistake(
        "a sweep's lane does not know what it returned last",
        "map",
        {"ref, records + lane->last * size, record,": "ref, records + at * size, record,"},
    ),
    Mistake(
        "a record is popped before its push is finished",
        "mpmc",
        {"if (ads_mpmc_helped(a, at.slot, at.word)) continue;": ""},
    ),
    Mistake(
        "who only reads an MPMC ring does not look whether the record is still there",
        "mpmc",
        {"if (ads_load(ads_at(a, __u64, c->at.slot)) == c->at.word) {": "if (1) {"},
    ),
    Mistake(
        "who only reads a queue does not look whether the record was taken",
        "queue",
        {"if (head - c->at - 1 >= 1ull << 62) {": "if (1) {"},
    ),
    Mistake(
        "an entry is reaped though its link has changed meanwhile",
        "mpmc",
        {
            "if (ads_load(ads_link_of(a, entry)) != link) return ADS_LOST; if (!(link": (
                "if (!(link"
            )
        },
    ),
    Mistake(
        "a push is linked before it is aimed",
        "list",
        {
            "ads_entry_aim(a, w.held, w.entry); /* Commit of push": "/* Commit of push",
            "*entry = w.held; ads_hand_clear(a); return ADS_OK; } ads_walk_restart(a, &w, pool);": (
                "ads_entry_aim(a, w.held, w.entry); *entry = w.held; ads_hand_clear(a); "
                "return ADS_OK; } ads_walk_restart(a, &w, pool);"
            ),
        },
    ),
    Mistake(
        "a push that has to try again keeps its order",
        "list",
        {
            "rc = ADS_BUDGET; } *order = seen == ADS_LOOK_END ? ADS_LIST_FIRST_ORDER : "
            "w.hash - 1;": (
                "rc = ADS_BUDGET; *order = seen == ADS_LOOK_END ? ADS_LIST_FIRST_ORDER : "
                "w.hash - 1; }"
            )
        },
    ),
    Mistake(
        "who pops the first and finds it gone takes the list for empty",
        "list",
        {"if (rc != ADS_ABSENT) { *order = w.hash; break; }": "*order = w.hash; break;"},
    ),
    Mistake(
        "who pops the first returns what it was when it was found",
        "list",
        {
            "rc = ads_list_delete_at(a, ads_list_head(ref), 0, ref, w.hash, 0, value, 0);": (
                "ads_copy_out(a, value, w.entry + ads_entry_value_offset(ref), ref.value_size); "
                "rc = ads_list_delete_at(a, ads_list_head(ref), 0, ref, w.hash, 0, 0, 0);"
            )
        },
    ),
    Mistake(
        "the life of an entry does not end",
        "orderedmap",
        {"ads_store_release(life, ads_load(life) + 1); /* R17 */": "(void)life;"},
    ),
    Mistake(
        "a tower is followed whatever life the entry below is in",
        "orderedmap",
        {
            "return !(link & ADS_LINK_MARK) && (__u32)ads_load(ads_at(a, __u64, (__u32)down + "
            "pool.life)) + 1 == down >> 32;": "return !(link & ADS_LINK_MARK);",
            "if (w->prev_link & ADS_LINK_MARK || (__u32)ads_load(ads_at(a, __u64, w->start + "
            "pool.life)) + 1 != w->life)": "if (w->prev_link & ADS_LINK_MARK)",
        },
    ),
    Mistake(
        "a stale hint is deleted and not given back",
        "orderedmap",
        {
            "if (stale) { ads_pool_retire(a, ads_pool_of(index), index.flags, (__u32)stale); "
            "stale = 0; }": "stale = 0;"
        },
    ),
    Mistake(
        "a stale hint is given back before it is walked past",
        "orderedmap",
        {
            "stale = hint; if (hint == (__u32)from)": (
                "ads_pool_retire(a, ads_pool_of(index), index.flags, hint); "
                "if (hint == (__u32)from)"
            )
        },
    ),
    Mistake(
        "who pops the first key and finds it gone takes the map for empty",
        "orderedmap",
        {
            "if (rc != ADS_ABSENT) break; rc = ADS_BUDGET; } if (!rc) ads_orderedmap_raze(a, ref, "
            "seek, *order, key);": (
                "break; } if (!rc) ads_orderedmap_raze(a, ref, seek, *order, key);"
            )
        },
    ),
)

IN_QUEUES = tuple(each for each in MISTAKES if each.group.startswith(("mpmc", "queue", "ring")))
IN_MAPS = tuple(each for each in MISTAKES if each not in IN_QUEUES)


def headers_with(mistake: Mistake, directory: Path) -> Path:
    """Copy the headers with the mistake in them; return the folder to include from."""
    headers = directory / "include" / "arenads"
    shutil.copytree(compiler.include_dir() / "arenads", headers)
    for right, wrong in mistake.changes.items():
        pattern = re.compile(r"\s+".join(map(re.escape, right.split())))
        places = [
            (path, found)
            for path in headers.glob("*.h")
            for found in pattern.finditer(path.read_text())
        ]
        assert len(places) == 1, f"the headers have changed: adapt the mistake {right!r}"
        path, found = places[0]
        text = path.read_text()
        path.write_text(text[: found.start()] + wrong + text[found.end() :])
    return headers.parent


def expect_found(mistake: Mistake, directory: Path) -> None:
    """Fail if the explorer finds nothing wrong in its scenarios of the mistake's group."""
    result = run(build(directory, headers_with(mistake, directory)), mistake.group)
    assert result.returncode != 0, result.stdout
    assert result.returncode < 0 or "FAILED: " in result.stdout, result.stdout + result.stderr
