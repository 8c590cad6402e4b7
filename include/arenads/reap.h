/* SPDX-License-Identifier: MIT */
/*
 * reap.h - give back what dead threads had in hand, while all others go on. User space only.
 *
 * A line of the registry (owner.h) names at most two entries. Whether one of them is the dead
 * thread's is read in the entry's link word:
 *
 *	link			the dead thread
 *	FREE			did not get it; or the top says that it did: help, look again
 *	TAKEN, its version	has it (help first, as with FREE)
 *	PUSHING			has it, if it is at the top of no stack; else help
 *	deleted by user space,	deleted it: unlink it, if nobody has yet, then it has it
 *	  its version
 *	unmarked, its version	has it, if it is not in the structure
 *	anything else		has nothing to do with it any more
 *
 * Another thread that lives may name the same entry at the same version: both tried, one got it. Then
 * the line waits until the other one has gone on. Two dead ones: the first line's reaping changes the
 * link.
 *
 * Rings with many producers (rings.h) name the thread that has one themselves: they are looked through
 * for each thread that has died.
 *
 * One thread reaps at a time: root.reaper names it, and if it dies the next one takes over, and
 * finds the line as it was: each step here can be done again.
 *
 * Who may call     user space with a writable mapping; the Python package in the thread that provisions.
 * Cost             a line and a look at /proc for each registered thread; for each entry in hand a
 *                  walk through the heap's blocks and one along the list from its bucket on, in an ordered
 *                  map from where its towers lead, in a list from the head. For each dead thread a
 *                  walk along the directory.
 * Death            another reaper starts over.
 * Limits           see owner.h. A stopped reaper delays other reapers, and nobody else.
 */
#ifndef ARENADS_REAP_H
#define ARENADS_REAP_H

#include "check.h"

#if !ADS_BPF

enum ads_reap_verdict { ADS_REAP_NOT_ITS, ADS_REAP_ITS, ADS_REAP_WAIT };

/* Whether a live thread other than that of `line` names the entry too: it may have it, or be giving it
 * back. */
static inline int ads_reap_contested(struct ads_arena *a, const struct ads_owner *line, __u32 entry)
{
	__u32 first, i, h, count = ads_owners(a, &first);

	for (i = 0; i < count; i++) {
		const struct ads_owner *other = ads_at(a, struct ads_owner, first + 64 * i);
		__u64 who = ads_load_acquire(&other->who); /* A21, pairs with R21 */

		for (h = 0; other != line && who && h < 2; h++) {
			__u64 hand = ads_load_acquire(&other->hand[h]); /* A19, pairs with R19 */

			if (((__u32)hand & ADS_HAND_ENTRY) == entry && !ads_owner_is_dead(other, who))
				return 1;
		}
	}
	return 0;
}

/* Help on what was begun with the entry, at the top of a stack or in a chunk: 1 if there was such. */
static inline int ads_reap_help(struct ads_arena *a, struct ads_pool_ref pool, __u32 entry)
{
	int helped = 0;
	__u32 s;

	for (s = 0; s < ADS_ALL_SHARDS; s++) {
		struct ads_shard *shard = ads_shard_of(a, pool, s);
		__u64 top = ads_load_acquire(&shard->free);    /* A2, pairs with R2 */
		__u64 chunk = ads_load_acquire(&shard->chunk); /* A12, pairs with R12 */

		if (((__u32)top & ~ADS_TOP_FLAGS) == entry)
			helped |= ads_shard_helped(a, shard, top);
		if ((__u32)chunk & ADS_TOP_TAKEN && ads_chunk_next(chunk, pool) == entry) {
			ads_chunk_help(a, shard, chunk, entry);
			helped = 1;
		}
	}
	return helped;
}

/*
 * Whether a walk from `start` on, as ads_walk_from() takes it, meets a live entry: 1 or 0, or an error. The
 * start is before it. When it is not met, the entry is in no list from now on, if its link is the same as
 * before. `map`: a hash map, whose buckets the walk may cross, or 0.
 */
static inline int ads_list_meets(struct ads_arena *a, __u32 map, struct ads_ref ref, __u64 start, __u32 entry)
{
	__u64 hash = ads_load(&ads_at(a, struct ads_entry, entry)->hash);
	struct ads_walk w = ads_walk_from(start);
	struct ads_pool_ref pool = ads_pool_of(ref);
	__u32 i;

	if (ads_bad(a, w.start, 8))
		return ADS_DAMAGED;
	ads_walk_restart(a, &w, pool);
	for (ads_loop(i)) {
		enum ads_look seen = ads_walk_look(a, &w, pool, ADS_WRITE);
		int crossed;

		if (seen == ADS_LOOK_AGAIN)
			continue;
		if (seen == ADS_LOOK_LOST)
			return ADS_LOST;
		if (seen == ADS_LOOK_END) {
			crossed = ads_walk_cross(a, &w, map, hash);
			if (crossed > 0)
				continue;
			return crossed ? ADS_DAMAGED : 0;
		}
		if (seen != ADS_LOOK_ENTRY)
			return ADS_DAMAGED;
		if (w.hash > hash)
			return 0;
		if (w.entry == entry)
			return 1;
		ads_walk_advance(&w);
	}
	return ADS_BUDGET;
}

/* The same for an entry of an ordered map, or for a hint in one of its levels: towers lead there. */
static inline int ads_orderedmap_meets(struct ads_arena *a, __u32 kind, struct ads_ref ref, __u32 entry)
{
	__u32 level = kind == ADS_KIND_INDEX, last = level ? ADS_LEVELS : 0, i;
	__u64 order = ads_load(&ads_at(a, struct ads_entry, entry)->hash);
	__u64 key[ADS_MAX_KEY / 8];
	struct ads_ref map = ref;
	int met = 0;

	if (level) {
		map.offset = ads_at(a, struct ads_header, ref.offset)->first;
		if (ads_structure_fill(a, &map) || ads_structure_check(a, ADS_KIND_ORDEREDMAP, map))
			return ADS_DAMAGED;
	}
	ads_copy_out(a, key, entry + 16, ads_round_up(ref.key_size, 8));
	for (; !met && level <= last; level++)
		for (ads_loop_overtaken(i)) {
			struct ads_walk w = ads_walk_from(0);

			met = ads_orderedmap_seek(a, &map, order, key, level | ADS_SEEK_HINTS, &w);
			if (!met)
				met = ads_list_meets(a, 0, ref, (__u64)w.life << 32 | w.start, entry);
			if (met != ADS_LOST)
				break;
		}
	return met;
}

/* The same in any list that the entry can be in. */
static inline int ads_collection_meets(struct ads_arena *a, __u32 kind, struct ads_ref ref, __u32 entry)
{
	__u64 hash = ads_load(&ads_at(a, struct ads_entry, entry)->hash);
	__u32 start;

	if (kind == ADS_KIND_ORDEREDMAP || kind == ADS_KIND_INDEX)
		return ads_orderedmap_meets(a, kind, ref, entry);
	start = ads_kind_is_hashed(kind) ? ads_hashmap_bucket(a, ref, hash) : ads_check_start(a, kind, ref, 0);
	return start ? ads_list_meets(a, ads_kind_is_hashed(kind) ? ref.offset : 0, ref, start, entry) : 0;
}

/* Whose the entry is that a dead thread's line names, while its link is *seen. */
static inline enum ads_reap_verdict ads_reap_judge(struct ads_arena *a, const struct ads_owner *line, __u32 kind,
						   struct ads_ref ref, __u64 hand, __u64 *seen)
{
	struct ads_pool_ref pool = ads_kind_pool(kind, ref);
	__u32 entry = (__u32)hand & ADS_HAND_ENTRY;
	__u32 version = (__u32)(hand >> 32);
	int aimed = hand & ADS_HAND_AIMED;
	__u32 i;

	for (ads_loop(i)) {
		__u64 link = *seen = ads_load_acquire(ads_link_of(a, entry)); /* A3, pairs with R3 */
		__u32 is = ads_link_version(link), state = (__u32)link;
		int met = 0;

		/* First: a slot that a dead thread has claimed lets its entry go. */
		if (kind == ADS_KIND_MPMC) {
			__u64 word;
			__u32 slot;
			enum ads_mpmc_where where = ads_mpmc_find(a, ref, entry, &slot, &word);

			if (where == ADS_MPMC_BEING_WRITTEN) {
				/* A claimer that lives would have to write its record again. */
				if (ads_reap_contested(a, line, entry))
					return ADS_REAP_WAIT;
				ads_mpmc_revoke(a, slot, word);
				continue;
			}
			if (ads_load(ads_link_of(a, entry)) != link)
				continue;
			if (where == ADS_MPMC_THERE)
				return ADS_REAP_NOT_ITS;
		}
		if (!link || (link & ADS_LINK_MARK && (state == ADS_LINK_FREE || state == ADS_LINK_PUSHING ||
						       state == ADS_LINK_TAKEN))) {
			if (ads_reap_help(a, pool, entry) || ads_load(ads_link_of(a, entry)) != link)
				continue;
			if (state != ADS_LINK_TAKEN)
				return state == ADS_LINK_PUSHING ? ADS_REAP_ITS : ADS_REAP_NOT_ITS;
			/* It was about to be aimed, or a reaper before us took an aimed one. */
			return is == version || (aimed && (ads_link_later(link) == version ||
							   is == ((version + 1) & 0x7fffffff)))
				       ? ADS_REAP_ITS
				       : ADS_REAP_NOT_ITS;
		}
		if (link & ADS_LINK_MARK ? aimed || !(link & ADS_LINK_USER) : !aimed)
			return ADS_REAP_NOT_ITS;
		/* One that was aimed before may have been about to be aimed again. */
		if (kind == ADS_KIND_POOL || (is != version && !(aimed && ads_link_later(link) == version)))
			return ADS_REAP_NOT_ITS;
		if (kind != ADS_KIND_MPMC)
			met = ads_collection_meets(a, kind, ref, entry);
		if (met < 0)
			return ADS_REAP_WAIT;
		if (ads_load(ads_link_of(a, entry)) != link)
			continue;
		return met ? ADS_REAP_NOT_ITS : ADS_REAP_ITS;
	}
	return ADS_REAP_WAIT;
}

/*
 * One hand of a dead thread that has linked or removed nodes. A node that is removed and not out
 * anyone may settle. One that is claimed, or aimed and in no list, is the dead one's if user space
 * claimed it with the version in the hand.
 */
static inline int ads_reap_node(struct ads_arena *a, const struct ads_owner *line, struct ads_ref ref, __u64 hand)
{
	const struct ads_header *h = ads_at(a, struct ads_header, ref.offset);
	struct ads_ref pool = {h->first, 0, ref.value_size, 0}, nodes = ads_nodes_ref(ref.offset);
	__u32 entry = (__u32)hand & ADS_HAND_ENTRY;
	__u32 object = entry + ads_entry_value_offset(pool);
	__u32 node = object + h->most, chunk, count;
	__u32 version = (__u32)(hand >> 32);
	int aimed = hand & ADS_HAND_AIMED;
	__u64 link, order;
	struct ads_walk w;
	int rc;

	if (!ads_pool_chunk_of(a, pool, object, &chunk, &count) || ads_bad(a, node, sizeof(struct ads_node)))
		return ADS_DAMAGED;
	link = ads_load_acquire(&ads_node_at(a, node)->link); /* A3, pairs with R3 */
	if (ads_node_is_out(link))
		return 0;
	if (!ads_node_is_taken(link))
		return ads_node_settle(a, node, link) ? ADS_LOST : 1;
	/* It may have been about to be aimed, or aimed again. */
	if (ads_link_version(link) != version && !(aimed && ads_link_later(link) == version))
		return 0;
	if (ads_link_next(link) & ADS_LINK_PENDING) {
		if (!(ads_link_next(link) & ADS_LINK_USER))
			return 0;
	} else {
		if (!aimed)
			return 0;
		order = ads_load(&ads_node_at(a, node)->order);
		w = ads_walk_from(ads_list_head(nodes));
		rc = ads_walk_find(a, &w, 0, nodes, order, 0, ADS_WRITE);
		if (rc != ADS_OK && rc != ADS_ABSENT)
			return ADS_LOST;
		if (rc == ADS_OK && w.entry == node)
			return 0;
	}
	if (ads_reap_contested(a, line, entry))
		return ADS_LOST;
	return ads_cas(ads_link_of(a, node), link, ads_link_change(link, 0) | ADS_LINK_MARK) == link; /* R3 */
}

/* One hand of a dead thread: 1 an entry was given back, 0 there was none, or ADS_LOST: later. */
static inline int ads_reap_hand(struct ads_arena *a, const struct ads_owner *line, __u64 hand)
{
	__u64 at = ads_load(&line->pool) - __builtin_offsetof(struct ads_collection, pool);
	struct ads_ref ref = {(__u32)at, 0, 0, 0};
	__u32 entry = (__u32)hand & ADS_HAND_ENTRY;
	__u32 chunk, count, kind;
	enum ads_reap_verdict verdict;
	__u64 link;

	if (!entry)
		return 0;
	if (at > a->size || ads_structure_fill(a, &ref))
		return ADS_DAMAGED;
	kind = ads_at(a, struct ads_header, ref.offset)->kind;
	if (ads_structure_check(a, kind, ref))
		return ADS_DAMAGED;
	if (kind == ADS_KIND_INTRUSIVE)
		return ads_reap_node(a, line, ref, hand);
	if (!ads_pool_chunk_of(a, ref, entry + ads_entry_value_offset(ref), &chunk, &count))
		return ADS_DAMAGED;
	verdict = ads_reap_judge(a, line, kind, ref, hand, &link);
	if (verdict == ADS_REAP_NOT_ITS)
		return 0;
	if (verdict == ADS_REAP_WAIT || ads_reap_contested(a, line, entry))
		return ADS_LOST;
	/* Who had it and has let go of it since has changed its link before: A19. */
	if (ads_load(ads_link_of(a, entry)) != link)
		return ADS_LOST;
	if (!(link & ADS_LINK_MARK))
		ads_store(ads_link_of(a, entry), ads_link_set_state(link, ADS_LINK_TAKEN));
	ads_pool_retire(a, ads_kind_pool(kind, ref), ref.flags, entry);
	return 1;
}

/* Whether a thread lives that has the name of a dead one, in another pid namespace. */
static inline int ads_reap_has_namesake(struct ads_arena *a, __u64 name)
{
	__u32 first, i, count = ads_owners(a, &first);

	for (i = 0; i < count; i++) {
		const struct ads_owner *line = ads_at(a, struct ads_owner, first + 64 * i);
		__u64 who = ads_load_acquire(&line->who); /* A21, pairs with R21 */

		if ((who & ~ADS_OWNER_STATE) == name && !ads_owner_is_dead(line, who))
			return 1;
	}
	return 0;
}

/*
 * Take the rings (rings.h) back that a thread had which is dead; what it has not published nobody has seen.
 * After the death was seen: a thread that lives may take one behind our back. 0, or ADS_BUDGET. In a
 * damaged directory those behind the damage stay.
 */
static inline int ads_reap_rings(struct ads_arena *a, __u64 name)
{
	struct ads_directory_value value;
	char spelt[ADS_NAME_SIZE] = {0};
	struct ads_scan scan;
	int rc;

	memset(&scan, 0, sizeof(scan));
	while (!(rc = ads_directory_next(a, &scan, spelt, &value))) {
		__u64 *word;

		if (value.kind != ADS_KIND_RING || ads_bad(a, value.offset, sizeof(struct ads_ring)))
			continue;
		word = &ads_at(a, struct ads_ring, value.offset)->producer;
		if (ads_load(word) == name && !ads_reap_has_namesake(a, name))
			ads_cas(word, name, 0); /* R34 */
	}
	return rc == ADS_BUDGET ? rc : ADS_OK;
}

/* Become the only reaper: 1, or 0 if somebody else is, and lives. */
static inline int ads_reap_begin(struct ads_arena *a, __u64 me)
{
	struct ads_root *root = ads_root_of(a);
	__u64 other = ads_load(&root->reaper);
	__u32 first, i, count = ads_owners(a, &first);

	for (i = 0; other && i < count; i++) {
		const struct ads_owner *line = ads_at(a, struct ads_owner, first + 64 * i);

		/* Without a line it has left, dead or alive. */
		if ((ads_load_acquire(&line->who) & ~ADS_OWNER_STATE) == other) /* A21, pairs with R21 */
			break;
	}
	if (other && i < count) {
		const struct ads_owner *line = ads_at(a, struct ads_owner, first + 64 * i);

		if (!ads_owner_is_dead(line, ads_load(&line->who)))
			return 0;
	}
	/* R22, and A22: what the reaper before us did is done. */
	return ads_cas(&root->reaper, other, me) == other;
}

/*
 * Give back what dead threads had in hand, and free their lines: how many entries, or an error.
 * *threads, if not NULL, becomes the number of lines that were freed.
 */
static inline __s64 ads_owner_reap(struct ads_arena *a, __u32 *threads)
{
	struct ads_root *root = ads_root_of(a);
	__u32 first, i, h, count = ads_owners(a, &first);
	struct ads_owner *mine;
	__u32 freed = 0;
	__s64 given = 0;
	__u64 me;

	if (threads)
		*threads = 0;
	if (!ads_writable(a))
		return ADS_READ_ONLY;
	if (!count)
		return 0;
	if (ads_bad(a, first, 64ull * count))
		return ADS_DAMAGED;
	mine = ads_owner_line(a);
	if (!mine)
		return ADS_FULL;
	me = ads_load(&mine->who) & ~ADS_OWNER_STATE;
	if (!ads_reap_begin(a, me))
		return 0;
	for (i = 0; i < count; i++) {
		struct ads_owner *line = ads_at(a, struct ads_owner, first + 64 * i);
		__u64 who = ads_load_acquire(&line->who); /* A21, pairs with R21 */
		int later;

		if (!who || line == mine || !ads_owner_is_dead(line, who))
			continue;
		if (who & ADS_OWNER_CLAIMED) {
			ads_cas(&line->who, who, 0); /* R21 */
			continue;
		}
		later = ads_reap_rings(a, who & ~ADS_OWNER_STATE) != ADS_OK;
		for (h = 0; h < 2; h++) {
			int rc = ads_reap_hand(a, line, ads_load(&line->hand[h]));

			if (rc == ADS_LOST)
				later = 1;
			else
				ads_hand_store(&line->hand[h], 0);
			given += rc > 0;
		}
		if (later)
			continue;
		ads_hand_store(&line->pool, 0);
		/* R21: the line is empty. */
		if (ads_cas(&line->who, who, 0) == who || ads_cas(&line->who, who | ADS_OWNER_DEAD, 0))
			freed++;
	}
	if (threads)
		*threads = freed;
	ads_cas(&root->reaper, me, 0); /* R22 */
	return given;
}

#endif /* !ADS_BPF */
#endif /* ARENADS_REAP_H */
