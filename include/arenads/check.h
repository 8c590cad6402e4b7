/* SPDX-License-Identifier: MIT */
/*
 * check.h - find out whether the books of a structure, and of the arena, balance. User space only.
 *
 * Every entry that was ever carved is in exactly one place: linked, free, or not taken
 * from its chunk yet. One that is in none has been leaked by a writer that died between
 * taking it and publishing it (or between unlinking it and giving it back).
 *
 * Others may work on the structure meanwhile. A walk looks again at the link by which it came,
 * as all readers do, and goes back where that has changed: what it meets is in the list. An entry that is
 * met at two places was moved if the version of its link has changed in between, else it is in both.
 * What looks leaked, or wrong in another way, may be in somebody's hands for a moment, so
 * ads_collection_check_live() looks several times, with a grace period between (which BPF programs
 * that are not sleepable do not outlast), and reports what each time was the same; what a
 * living thread names in the registry (owner.h) is that thread's. The rest is `moving`.
 *
 * Repair is for when no writer is running. Reading is safe at any time: every offset is
 * checked and every walk is bounded by the memory there is.
 */
#ifndef ARENADS_CHECK_H
#define ARENADS_CHECK_H

#include "directory.h"

#if !ADS_BPF

#include <stdlib.h>

struct ads_check_report {
	__u64 live;	/* linked, not deleted */
	__u64 deleted;	/* linked, deleted, waiting for the next writer to unlink them */
	__u64 free;	/* on a free list */
	__u64 waiting;	/* for a grace period to end */
	__u64 unused;	/* in a chunk, never taken */
	__u64 carved;	/* all of the above and the leaked ones */
	__u64 leaked;	/* in no place; of an intrusive list: in no list, and not free to be linked */
	__u64 repaired; /* leaked entries given back */
	__u64 errors;	/* things that no sequence of operations and deaths can produce */
	__u64 error_at; /* offset of the first */
	__u64 moving;	/* in the hands of others just now, as far as one can see */
};

#define ADS_CHECK_LOOKS 5 /* of a live check, where something looks wrong */

/* Where a walk has been: a link word, and what it was. */
struct ads_check_step {
	__u64 link, hash;
	__u32 at, shift;
};

/* Of a live check, what one look passes on to the next. */
struct ads_check_doubts {
	__u32 look;
	__u32 hands;		      /* entries in the hands of living threads */
	__u32 *leaked;		      /* as `seen` below, those that looked leaked each time */
	unsigned char *before, *now; /* a bit for each 8 bytes: where an error was each time, and is */
	__u32 held[2 * ADS_OWNERS_MOST];
};

struct ads_check {
	struct ads_arena *a;
	/* One bit for each 8 bytes of the arena: whether an entry or shortcut starts there and was seen. */
	unsigned char *linked, *freed;
	__u64 cells;
	struct ads_check_report *report;
	struct ads_check_doubts *doubts; /* 0: nobody else works here */
	/* A word for each 32 bytes, in which one entry can start: the version its link had when it was seen
	 * last, twice, and 1. */
	__u32 *seen;
	__u32 rest;  /* where in 32 bytes entries start */
	__u32 lost;  /* a walk could not get to its end: what it did not meet may be there */
	__u64 again; /* entries that were seen at another place later */
	struct ads_check_step *steps;
	__u64 count, room;
	int rc;
};

static inline struct ads_check ads_check_of(struct ads_arena *a, struct ads_check_report *report)
{
	struct ads_check c;

	memset(&c, 0, sizeof(c));
	c.a = a;
	c.cells = a->size / 8;
	c.report = report;
	return c;
}

static inline struct ads_check_step ads_check_step_at(__u32 at, __u64 link, __u64 hash, __u32 shift)
{
	struct ads_check_step step = {link, hash, at, shift};

	return step;
}

static inline int ads_check_mark(unsigned char *bits, __u32 offset);
static inline int ads_check_seen(const unsigned char *bits, __u32 offset);

static inline void ads_check_error(struct ads_check *c, __u64 at)
{
	struct ads_check_doubts *d = c->doubts;
	__u32 place = at < c->a->size ? (__u32)at : 0;

	if (d) {
		ads_check_mark(d->now, place);
		if (d->look && !ads_check_seen(d->before, place))
			return; /* it was none a moment ago */
	}
	if (!c->report->errors++)
		c->report->error_at = at;
}

/* Set the bit of an offset; whether it was set before. */
static inline int ads_check_mark(unsigned char *bits, __u32 offset)
{
	unsigned char bit = (unsigned char)(1 << (offset / 8 % 8));
	int was = bits[offset / 64] & bit;

	bits[offset / 64] |= bit;
	return was;
}

static inline int ads_check_seen(const unsigned char *bits, __u32 offset)
{
	return bits[offset / 64] >> (offset / 8 % 8) & 1;
}

static inline void ads_check_clear(unsigned char *bits, __u32 offset)
{
	bits[offset / 64] &= (unsigned char)~(1 << (offset / 8 % 8));
}

/* What `seen` has of an entry with this link. */
static inline __u32 ads_check_version(__u64 link)
{
	return ads_link_version(link) << 1 | 1;
}

/* An entry was seen here, with this link: 1 if it is elsewhere too. */
static inline int ads_check_sight(struct ads_check *c, unsigned char *bits, __u32 entry, __u64 link)
{
	__u32 *seen = c->seen + entry / 32, now = ads_check_version(link);

	if (*seen == now)
		return 1;
	c->again += !!*seen; /* it has moved since */
	*seen = now;
	ads_check_clear(bits == c->linked ? c->freed : c->linked, entry);
	ads_check_mark(bits, entry);
	return 0;
}

/* It was not seen, after all. */
static inline void ads_check_unsee(struct ads_check *c, __u32 entry)
{
	c->seen[entry / 32] = 0;
	ads_check_clear(c->linked, entry);
	ads_check_clear(c->freed, entry);
}

static inline int ads_check_remember(struct ads_check *c, __u32 at, __u64 link, __u64 hash)
{
	if (c->count == c->room) {
		__u64 room = c->room ? 2 * c->room : 64;
		void *more = realloc(c->steps, room * sizeof(*c->steps));

		if (!more) {
			c->rc = ADS_NO_MEMORY;
			return 0;
		}
		c->steps = (struct ads_check_step *)more;
		c->room = room;
	}
	c->steps[c->count++] = ads_check_step_at(at, link, hash, 0);
	return 1;
}

/* Whether an entry that was seen nowhere is leaked, and not in somebody's hands. */
static inline int ads_check_leaks(struct ads_check *c, __u32 entry, __u64 link)
{
	struct ads_check_doubts *d = c->doubts;
	__u32 now = ads_check_version(link), *was, i;
	int held = (int)c->lost;

	if (d) {
		was = d->leaked + entry / 32;
		held |= d->look && *was != now;
		for (i = 0; !held && i < d->hands; i++)
			held = d->held[i] == entry;
		*was = held ? 0 : now;
	}
	c->report->moving += (__u64)held;
	return !held;
}

/* How the keys of two entries compare; equal ones may not be in one list. */
static inline int ads_check_order(struct ads_arena *a, __u32 entry, __u32 next, struct ads_ref ref)
{
	__u64 key[ADS_MAX_KEY / 8];

	ref.key_size = ads_round_up(ref.key_size, 8);
	ads_copy_out(a, key, next + 16, ref.key_size);
	return ads_compare_key(a, entry, key, ref);
}

static inline __u64 ads_check_hash(struct ads_arena *a, __u32 entry, __u32 key_size, __u64 seed)
{
	__u64 key[ADS_MAX_KEY / 8];

	ads_copy_out(a, key, entry + 16, ads_round_up(key_size, 8));
	return ads_hash(key, key_size, seed);
}

/* Every shortcut that says it is ready must have been met in the list. */
static inline void ads_check_tables(struct ads_check *c, struct ads_ref ref)
{
	__u64 table = ads_table_newest(c->a, ref.offset);
	__u32 tables;

	for (tables = 0; table && tables < 32; tables++, table = ads_table_previous(c->a, table)) {
		__u64 links = 1ull << ads_table_bits(table);
		__u64 i;

		if (ads_bad(c->a, (__u32)table, sizeof(struct ads_table) + 8 * links)) {
			ads_check_error(c, (__u32)table);
			return;
		}
		for (i = 0; i < links; i++) {
			__u32 at = (__u32)(table + sizeof(struct ads_table) + 8 * i);

			if (ads_link_ready(ads_load_acquire(ads_at(c->a, __u64, at))) && /* A3 */
			    !ads_check_seen(c->linked, at))
				ads_check_error(c, at);
		}
	}
}

/* Go back to the last link word that is as it was: so it is in the list. The first one always is. */
static inline struct ads_check_step ads_check_back(struct ads_check *c, const struct ads_check_step *first)
{
	struct ads_check_step back = *first;

	while (c->count) {
		const struct ads_check_step *step = &c->steps[c->count - 1];

		if (!(step->link & ADS_LINK_MARK) && ads_load(ads_link_of(c->a, step->at)) == step->link)
			return *step;
		c->report->live -= !(step->link & ADS_LINK_MARK);
		c->report->deleted -= !!(step->link & ADS_LINK_MARK);
		ads_check_unsee(c, step->at);
		c->count--;
	}
	back.link = ads_load_acquire(ads_link_of(c->a, back.at)); /* A3, pairs with R3 */
	return back;
}

/* Follow all links from the first word on: hashes only grow, and at the same hash come the
 * shortcuts of older tables, those of newer ones, the entries. */
static inline void ads_check_links(struct ads_check *c, __u32 kind, struct ads_ref ref, __u32 at)
{
	__u32 map = ads_kind_is_hashed(kind);
	__u32 stride = ads_entry_stride(ref);
	__u64 seed = ads_at(c->a, struct ads_header, ref.offset)->seed;
	struct ads_check_step first = ads_check_step_at(at, 0, 0, 64), prev; /* prev: the last that was not deleted */
	__u64 step, link, moved = 0;

	if (ads_bad(c->a, at, 8) || (map && ads_check_mark(c->linked, at))) {
		ads_check_error(c, at);
		return;
	}
	c->count = 0;
	prev = ads_check_back(c, &first);
	link = prev.link;
	for (step = 0; step < c->cells + moved && moved <= c->cells; step++) {
		__u32 next = (link & ADS_LINK_MARK ? ads_deleted_next(link) : ads_link_next(link)) & ~ADS_LINK_PENDING;
		struct ads_entry *e;
		__u64 hash;
		int wrong;

		if (next == ADS_LINK_END)
			return;
		if (next & ADS_LINK_TAG) {
			__u64 table, its_first;

			at = next & ~ADS_LINK_TAG;
			table = map ? ads_shortcut_table(c->a, ref.offset, at) : 0;
			its_first = map ? ads_shortcut_hash(c->a, ref.offset, at) : 0;
			if (!table || ads_bad(c->a, at, 8) || ads_check_mark(c->linked, at) || its_first < prev.hash ||
			    (its_first == prev.hash && table >> 32 >= prev.shift)) {
				ads_check_error(c, at);
				return;
			}
			c->count = 0;
			first = ads_check_step_at(at, 0, its_first, (__u32)(table >> 32));
			prev = ads_check_back(c, &first);
			link = prev.link;
			continue;
		}
		if (ads_bad(c->a, next, stride) || next % 32 != c->rest) {
			ads_check_error(c, next);
			return;
		}
		e = ads_at(c->a, struct ads_entry, next);
		link = ads_load_acquire(&e->link); /* A3, pairs with R3 */
		hash = ads_load(&e->hash);
		wrong = hash < prev.hash;
		/* Keys are compared only with those behind the same shortcut. */
		if (prev.at != first.at && hash == prev.hash && ads_check_order(c->a, prev.at, next, ref) >= 0)
			wrong = 1;
		if (map && ads_check_hash(c->a, next, ref.key_size, seed) != hash)
			wrong = 1;
		ads_fence_acquire(); /* F13: the loads above are done before those below */
		if (ads_load(ads_link_of(c->a, prev.at)) != prev.link || ads_load(&e->link) != link) {
			moved++;
			prev = ads_check_back(c, &first);
			link = prev.link;
			continue;
		}
		if (ads_check_sight(c, c->linked, next, link)) {
			ads_check_error(c, next); /* a cycle, or two ways to one entry */
			return;
		}
		if (!ads_check_remember(c, next, link, hash))
			return;
		if (link & ADS_LINK_MARK) {
			c->report->deleted++;
			continue;
		}
		c->report->live++;
		if (wrong)
			ads_check_error(c, next);
		prev = c->steps[c->count - 1]; /* no shortcut may follow an entry of its own hash */
	}
	if (moved)
		c->lost = 1;
	else
		ads_check_error(c, ref.offset);
}

/* Go on to where a position of a ring is now; 0: it is nowhere. */
static inline int ads_check_seek(struct ads_check *c, struct ads_ref ref, enum ads_mpmc_end end,
				 struct ads_mpmc_place *at)
{
	int rc = ads_mpmc_seek(c->a, ref, end, at);

	if (rc != ADS_DAMAGED && rc != ADS_BUDGET)
		return 1;
	ads_check_error(c, ref.offset);
	return 0;
}

/*
 * Look at every slot of an MPMC ring: each has the record, or waits for the record, of a position
 * that the ring can be at. Positions only grow, so they are read before and after: who works on
 * the ring meanwhile makes no error.
 */
static inline void ads_check_slots(struct ads_check *c, struct ads_ref ref)
{
	__u32 bits = ads_at(c->a, struct ads_header, ref.offset)->most & 31;
	__u64 slots = 1ull << bits;
	struct ads_mpmc_place head, tail, head_now, tail_now;
	__u64 i;

	ads_mpmc_start(c->a, ref, ADS_MPMC_HEAD, &head);
	ads_mpmc_start(c->a, ref, ADS_MPMC_TAIL, &tail);
	if (!ads_check_seek(c, ref, ADS_MPMC_HEAD, &head) || !ads_check_seek(c, ref, ADS_MPMC_TAIL, &tail))
		return;
	head_now = head;
	tail_now = tail;
	if (!ads_check_seek(c, ref, ADS_MPMC_HEAD, &head_now))
		return;
	if ((__s64)(tail.position - head.position) < 0 || (__s64)(tail.position - head_now.position) > (__s64)slots)
		ads_check_error(c, ref.offset + (__u32)sizeof(struct ads_collection));
	for (i = 0; i < slots; i++) {
		__u64 *slot = ads_at(c->a, __u64, ref.offset + sizeof(struct ads_mpmc) + 8 * i);
		__u32 at = (__u32)((char *)slot - c->a->base);
		__u64 seen = ads_load_acquire(slot); /* A41, pairs with R41 */
		__u32 entry = ads_mpmc_entry(seen), full = (__u32)seen & ADS_MPMC_FULL;
		__u64 lap = head.position >> bits, first, end, link;

		if (!ads_check_seek(c, ref, ADS_MPMC_HEAD, &head_now) ||
		    !ads_check_seek(c, ref, ADS_MPMC_TAIL, &tail_now))
			return;
		lap += (__u64)(__s32)((__u32)(seen >> 32) - (__u32)lap); /* the slot's, all 64 bits */
		first = full ? head.position : tail.position;
		end = full ? tail_now.position : head_now.position + slots;
		if ((lap << bits) + i - first >= end - first || (full && !entry))
			ads_check_error(c, at);
		/* One that is claimed is in somebody's hand, as far as entries are counted. */
		if (!entry || (__u32)seen & ADS_MPMC_CLAIMED)
			continue;
		if (ads_bad(c->a, entry, ads_mpmc_pool(ref).stride) || entry % 32) {
			ads_check_error(c, at);
			continue;
		}
		link = ads_load_acquire(ads_link_of(c->a, entry)); /* A3: before the slot again */
		if (ads_load(slot) != seen)
			continue;
		if (link & ADS_LINK_MARK || ads_check_sight(c, full ? c->linked : c->freed, entry, link)) {
			ads_check_error(c, at);
			continue;
		}
		c->report->live += !!full;
		c->report->free += !full;
	}
}

/* Follow one free list; the count in each entry must be that of the entries below it. 0: it has changed
 * meanwhile, so nothing was seen. */
static inline int ads_check_stack(struct ads_check *c, struct ads_pool_ref pool, __u32 s)
{
	const __u64 *word_of_top = &ads_shard_of(c->a, pool, s)->free;
	__u64 top = ads_load_acquire(word_of_top); /* A2, pairs with R2 */
	__u32 at = (__u32)top & ~ADS_TOP_FLAGS;
	__u32 taken = (__u32)top & ADS_TOP_TAKEN ? at : 0;
	__u64 left = ~0ull, wrong = 0, i;

	c->count = 0;
	if (!at && (__u32)top)
		wrong = pool.offset; /* marks of an entry that is none */
	while (at && !wrong) {
		struct ads_entry *e = ads_at(c->a, struct ads_entry, at);
		__u64 link, word;

		if (ads_bad(c->a, at, pool.stride) || at % 32) {
			wrong = at;
			break;
		}
		link = ads_load_acquire(&e->link); /* A3, pairs with R3 */
		word = ads_load(&e->hash);
		if (left != ~0ull && word >> 32 != left)
			wrong = at;
		left = (word >> 32) - 1;
		/* The topmost one may be in somebody's hand already. */
		if (at == taken && ads_check_seen(c->linked, at) && c->seen[at / 32] == ads_check_version(link))
			wrong = at;
		if (at != taken && ads_check_sight(c, c->freed, at, link))
			wrong = at;
		else if (at != taken && !ads_check_remember(c, at, link, word))
			return 1;
		at = (__u32)word;
	}
	if (!wrong && left && left != ~0ull)
		wrong = pool.offset; /* the lowest one does not count 1 */
	ads_fence_acquire(); /* F2: the entries before the top again */
	if (wrong && ads_load(word_of_top) != top) {
		for (i = 0; i < c->count; i++)
			ads_check_unsee(c, c->steps[i].at);
		return 0;
	}
	if (wrong)
		ads_check_error(c, wrong);
	c->report->free += s < ADS_SHARD_RETIRED ? c->count : 0;
	c->report->waiting += s < ADS_SHARD_RETIRED ? 0 : c->count;
	return 1;
}

static inline void ads_check_free(struct ads_check *c, struct ads_pool_ref pool)
{
	__u32 s, tries;

	for (s = 0; s < ADS_ALL_SHARDS; s++) {
		/* What changes is at the top, where the walk begins. */
		for (tries = 0; tries < 1000 && !ads_check_stack(c, pool, s); tries++)
			;
		if (tries == 1000)
			c->lost = 1;
	}
	for (s = 0; s < ADS_SHARDS; s++) {
		const __u64 *spare = &ads_shard_of(c->a, pool, s)->spare;
		__u64 word = ads_load_acquire(spare); /* A2 */
		__u32 at = (__u32)word & ~ADS_MPMC_LENT;
		__u64 link;

		if (!at)
			continue;
		if (ads_bad(c->a, at, pool.stride) || at % 32 ||
		    s >= ads_at(c->a, struct ads_pool, pool.offset)->own_spares) {
			ads_check_error(c, ads_shard_place(pool, s));
			continue;
		}
		link = ads_load_acquire(ads_link_of(c->a, at)); /* A3: before the word again */
		if (ads_load(spare) != word)
			continue;
		if (ads_check_sight(c, c->freed, at, link))
			ads_check_error(c, ads_shard_place(pool, s));
		else
			c->report->free++;
	}
}

/* Give a leaked entry back, first to a shard that lacks its spare one: as nobody writes meanwhile, that
 * is lost. Not in an MPMC ring, whose BPF programs give a shard one when they can. */
static inline void ads_check_give(struct ads_check *c, struct ads_pool_ref pool, __u32 entry)
{
	const struct ads_pool *p = ads_at(c->a, struct ads_pool, pool.offset);
	__u32 s, own = p->spares ? p->own_spares : 0;

	for (s = 0; s < own && s < ADS_SHARDS; s++)
		if (!(__u32)ads_load(&ads_shard_of(c->a, pool, s)->spare)) {
			ads_spare_give(c->a, pool, ads_shard_place(pool, s), entry);
			return;
		}
	ads_pool_give(c->a, pool, entry);
}

/* Visit every entry in the pool's chunks: the heap says which those are. */
static inline void ads_check_chunks(struct ads_check *c, __u32 kind, struct ads_pool_ref pool, int repair)
{
	__u64 cursor = ads_load_acquire(&ads_root_of(c->a)->cursor); /* A1, pairs with R1 */
	const __u64 *carved = &ads_at(c->a, struct ads_pool, pool.offset)->carved;
	__u64 before = ads_load_acquire(carved) >> 32; /* A11, pairs with R11 */
	__u64 at, placed = 0, last_chunk = 0, books;

	for (at = ADS_HEAP_OFFSET;;) {
		__u64 word, bytes, taken, i;
		__u64 chunk;

		/* A10, pairs with R10 */
		word = ads_arena_reaches(c->a, at + 8) ? ads_load_acquire(ads_at(c->a, __u64, at)) : 0;
		/* At the cursor there may be one more block, whose claimer has died. */
		if (!word && at >= cursor)
			break;
		if ((word & 3) == ADS_BLOCK_CHUNK && ((__u32)word & ~63u) == pool.offset)
			bytes = word >> 32 > 0xffff ? 0 : ads_block_size(word >> 32, pool.stride);
		else
			bytes = ads_block_bytes(c->a, word);
		if (!bytes || !ads_arena_reaches(c->a, at + bytes)) {
			ads_check_error(c, at);
			return;
		}
		if ((word & 3) != ADS_BLOCK_CHUNK || ((__u32)word & ~63u) != pool.offset) {
			at += bytes;
			continue;
		}
		last_chunk = at >= cursor ? word >> 32 : 0;
		chunk = ads_load_acquire(&ads_shard_of(c->a, pool, (word >> 2) & 15)->chunk); /* A12, pairs with R12 */
		taken = word >> 32; /* a newer chunk has taken its place: it is used up */
		if (((__u32)chunk & ~ADS_TOP_FLAGS) == at + 8)
			taken = ((chunk >> 32) & 0xffff) + !!((__u32)chunk & ADS_TOP_TAKEN);
		else if ((__u32)chunk < at)
			taken = 0; /* not given to its shard yet */
		for (i = 0; i < word >> 32; i++) {
			__u32 entry = (__u32)(at + 8 + i * pool.stride);
			int linked = ads_check_seen(c->linked, entry);
			int freed = ads_check_seen(c->freed, entry);
			__u64 link = ads_load(ads_link_of(c->a, entry));

			/* An object of a pool is in use exactly while its link is not marked. */
			if (kind == ADS_KIND_POOL && i < taken && !freed && !ads_bad(c->a, entry, pool.stride) && link &&
			    !(link & ADS_LINK_MARK)) {
				linked = 1;
				c->report->live++;
			}
			if (c->doubts && (linked || freed))
				c->doubts->leaked[entry / 32] = 0;
			c->report->carved++;
			placed += (__u64)(linked || freed);
			if (i >= taken) {
				c->report->unused++;
				if (linked || freed)
					ads_check_error(c, entry);
			} else if (!linked && !freed && ads_check_leaks(c, entry, link)) {
				c->report->leaked++;
				if (repair) {
					ads_check_give(c, pool, entry);
					c->report->repaired++;
				}
			}
		}
		at += bytes;
	}
	books = ads_load_acquire(carved) >> 32; /* A11, pairs with R11 */
	if (before == books ? books != c->report->carved && books + last_chunk != c->report->carved
			    : before > c->report->carved || books + last_chunk < c->report->carved)
		ads_check_error(c, pool.offset); /* the books may lack a chunk at the cursor, no more */
	if (placed + c->again != c->report->live + c->report->deleted + c->report->free + c->report->waiting)
		ads_check_error(c, pool.offset); /* something linked or free lies in no chunk */
}

/*
 * Visit the nodes of an intrusive list, in the records of its pool. Those that were met in the list
 * must be in records in use, and all of them here. One that was not met and is not out either
 * is leaked: who claimed or removed it has died.
 */
static inline void ads_check_nodes(struct ads_check *c, struct ads_ref ref, int repair)
{
	const struct ads_header *h = ads_at(c->a, struct ads_header, ref.offset);
	struct ads_ref pool = {h->first, 0, ref.value_size, 0};
	__u32 stride = ads_entry_stride(pool), node_at = h->most;
	__u64 at, bytes, i, placed = 0;

	for (at = ADS_HEAP_OFFSET; ads_arena_reaches(c->a, at + 8); at += bytes) {
		__u64 word = ads_load_acquire(ads_at(c->a, __u64, at)); /* A10 */

		bytes = ads_block_bytes(c->a, word);
		if (!bytes || !ads_arena_reaches(c->a, at + bytes))
			break;
		if ((word & 3) != ADS_BLOCK_CHUNK || ((__u32)word & ~63u) != ads_pool_of(pool).offset)
			continue;
		for (i = 0; i < word >> 32; i++) {
			__u32 entry = (__u32)(at + 8 + i * stride);
			__u32 node = entry + ads_entry_value_offset(pool) + node_at;
			struct ads_node *n = ads_node_at(c->a, node);
			__u64 used, link;
			__u32 list;

			if (ads_bad(c->a, entry, stride) || node_at > stride)
				break; /* of another size than its pool says */
			used = ads_load(ads_link_of(c->a, entry));
			link = ads_load_acquire(&n->link); /* A3 */
			list = ads_node_list(c->a, node, link);
			if (ads_check_seen(c->linked, node)) {
				placed++;
				if (c->seen[node / 32] == ads_check_version(link) && ads_node_is_taken(link) &&
				    (list != ref.offset || !used || used & ADS_LINK_MARK))
					ads_check_error(c, node); /* freed, or linked elsewhere too */
				if (c->doubts)
					c->doubts->leaked[node / 32] = 0;
			} else if (!ads_node_is_out(link) && list == ref.offset && ads_check_leaks(c, node, link)) {
				c->report->leaked++;
				if (repair) {
					ads_cas(&n->link, link, ads_link_change(link, 0) | ADS_LINK_MARK); /* R3 */
					c->report->repaired++;
				}
			}
		}
	}
	c->report->carved = c->report->live + c->report->deleted + c->report->leaked;
	if (placed + c->again != c->report->live + c->report->deleted)
		ads_check_error(c, ref.offset); /* something linked is no node of the pool's records */
}

/*
 * Whether `object` is one of the pool's, at `chunk` or in a chunk behind it: 1 with *chunk and
 * *count set to its chunk's first object and number of objects, 0 if not. Start with 0.
 */
static inline int ads_pool_chunk_of(struct ads_arena *a, struct ads_ref ref, __u32 object, __u32 *chunk, __u32 *count)
{
	struct ads_pool_ref pool = ads_kind_pool(ads_at(a, struct ads_header, ref.offset)->kind, ref);
	__u64 at = ADS_HEAP_OFFSET;

	while (ads_arena_reaches(a, at + 8)) {
		__u64 word = ads_load_acquire(ads_at(a, __u64, at)); /* A10, pairs with R10 */
		__u64 bytes = ads_block_bytes(a, word);

		if (!bytes || at > object)
			break;
		if ((word & 3) == ADS_BLOCK_CHUNK && ((__u32)word & ~63u) == pool.offset && object < at + bytes) {
			*chunk = (__u32)at + 8 + ads_entry_value_offset(ref);
			*count = (__u32)(word >> 32);
			return object >= *chunk && !((object - *chunk) % pool.stride) &&
			       (object - *chunk) / pool.stride < *count;
		}
		at += bytes;
	}
	return 0;
}

/* Finish what dead threads began at the stacks and chunks of a pool: their entries are leaked then. */
static inline void ads_check_help(struct ads_arena *a, struct ads_pool_ref pool)
{
	__u32 s;

	for (s = 0; s < ADS_ALL_SHARDS; s++) {
		struct ads_shard *shard = ads_shard_of(a, pool, s);
		__u64 chunk = ads_load_acquire(&shard->chunk); /* A12, pairs with R12 */
		__u32 next = ads_chunk_next(chunk, pool);
		int i;

		for (i = 0; i < 2; i++) /* one that was taken, and then what was under it */
			ads_shard_helped(a, shard, ads_load_acquire(&shard->free)); /* A2 */
		if ((__u32)chunk & ADS_TOP_TAKEN && !ads_bad(a, next, pool.stride))
			ads_chunk_help(a, shard, chunk, next);
	}
}

/* Finish the claim at the cursor, if there is one. */
static inline void ads_check_finish(struct ads_arena *a)
{
	__u64 cursor = ads_load_acquire(&ads_root_of(a)->cursor); /* A1, pairs with R1 */

	if (cursor % ADS_LINE == 56 && cursor < a->size && ads_arena_reaches(a, cursor + 8)) {
		__u64 word = ads_load_acquire(ads_at(a, __u64, cursor)); /* A10, pairs with R10 */

		if (word)
			ads_block_finish(a, (__u32)cursor, word);
	}
}

/* Do what the dead left undone: the claim at the cursor, and deleted entries still linked, which
 * are leaked then. */
static inline void ads_check_sweep(struct ads_arena *a, __u32 kind, struct ads_ref ref, __u32 start)
{
	struct ads_pool_ref pool = ads_kind_pool(kind, ref);
	struct ads_walk w;
	__u64 step;

	ads_check_finish(a);
	if (kind != ADS_KIND_INTRUSIVE) /* that has no pool */
		ads_check_help(a, pool);
	if (kind == ADS_KIND_MPMC)
		ads_mpmc_help(a, ref);
	if (!start)
		return;
	w = ads_walk_from(start);
	if (ads_bad(a, w.start, 8))
		return;
	ads_walk_restart(a, &w, pool);
	for (step = 0; step < a->size / 8; step++) {
		enum ads_look seen = ads_walk_look(a, &w, pool, ADS_WRITE);

		if (seen == ADS_LOOK_DAMAGED || w.entry == ADS_LINK_END)
			return;
		if (seen == ADS_LOOK_ENTRY)
			ads_walk_advance(&w);
		if (seen == ADS_LOOK_END) {
			w.start = w.entry & ~ADS_LINK_TAG;
			if (ads_bad(a, w.start, 8))
				return;
			ads_walk_restart(a, &w, pool);
		}
	}
}

/* Where the list of a structure begins, or for towers that of one of their levels; 0: no more lists. */
static inline __u32 ads_check_start(struct ads_arena *a, __u32 kind, struct ads_ref ref, __u32 number)
{
	const struct ads_header *h = ads_at(a, struct ads_header, ref.offset);

	if (kind == ADS_KIND_INDEX) {
		struct ads_ref map = {h->first, 0, 0, 0};

		return number < ADS_LEVELS ? ads_orderedmap_head(map, number + 1) : 0;
	}
	if (number || kind == ADS_KIND_POOL || kind == ADS_KIND_MPMC)
		return 0;
	return ads_kind_is_hashed(kind) ? h->first : ads_list_head(ref);
}

/* A ring has no entries that could leak: its positions and what waits are looked at. */
static inline int ads_check_ring(struct ads_arena *a, struct ads_ref ref, struct ads_check_report *report)
{
	report->error_at = ads_ring_check(a, ref, &report->live);
	report->errors = !!report->error_at;
	report->carved = report->live;
	return ADS_OK;
}

/* What a walk must know of a structure: of an intrusive list, that it is one of nodes. */
static inline struct ads_ref ads_check_walked(__u32 kind, struct ads_ref ref)
{
	return kind == ADS_KIND_INTRUSIVE ? ads_nodes_ref(ref.offset) : ref;
}

static inline void ads_check_all(struct ads_check *c, __u32 kind, struct ads_ref ref, int repair)
{
	struct ads_pool_ref pool = ads_kind_pool(kind, ref);
	struct ads_ref walked = ads_check_walked(kind, ref);
	__u32 start, i;

	c->rest = 0;
	if (kind == ADS_KIND_INTRUSIVE) {
		const struct ads_header *h = ads_at(c->a, struct ads_header, ref.offset);
		struct ads_ref records = {h->first, 0, ref.value_size, 0};

		c->rest = (ads_entry_value_offset(records) + h->most) % 32;
	}
	if (kind == ADS_KIND_MPMC)
		ads_check_slots(c, ref);
	for (i = 0; (start = ads_check_start(c->a, kind, ref, i)); i++)
		ads_check_links(c, kind, walked, start);
	if (kind == ADS_KIND_INTRUSIVE) {
		ads_check_nodes(c, ref, repair && !c->report->errors);
		return;
	}
	if (ads_kind_is_hashed(kind))
		ads_check_tables(c, ref);
	ads_check_free(c, pool);
	ads_check_chunks(c, kind, pool, repair && !c->report->errors);
}

/*
 * Check an array: each chunk word names a block of the heap that is that chunk, and each block
 * of the heap that is a chunk of this array is named by its word. But for one at the cursor,
 * whose claimer has died: `repair` does the rest of its work.
 */
static inline int ads_array_check(struct ads_arena *a, struct ads_ref ref, int repair, struct ads_check_report *report)
{
	struct ads_check c = ads_check_of(a, report);
	__u64 entries = ads_array_entries(a, ref);
	__u32 shift = ads_array_shift(ref.value_size);
	__u64 chunks = ads_array_chunks(ref.value_size, entries);
	__u64 cursor = ads_load_acquire(&ads_root_of(a)->cursor); /* A1 */
	__u64 at, number;

	for (number = 0; number < chunks; number++) {
		__u32 place = ads_array_word(ref.offset, (__u32)number);
		__u64 first = number << shift;
		__u64 word;

		if (ads_bad(a, place, 8)) {
			ads_check_error(&c, place);
			return ADS_OK;
		}
		word = ads_load_acquire(ads_at(a, __u64, place)); /* A15 */
		if (!word)
			continue;
		report->carved += entries - first < 1ull << shift ? entries - first : 1ull << shift;
		/* A10, pairs with R10. */
		if (word >> 32 || word % ADS_LINE || ads_bad(a, (__u32)word - 8, ads_array_block_size(a, ref.offset, number)) ||
		    ads_load_acquire(ads_at(a, __u64, (__u32)word - 8)) != (number << 32 | ref.offset | ADS_BLOCK_TABLE))
			ads_check_error(&c, place);
	}
	report->live = report->carved;
	for (at = ADS_HEAP_OFFSET;;) {
		__u64 word = ads_arena_reaches(a, at + 8) ? ads_load_acquire(ads_at(a, __u64, at)) : 0; /* A10 */
		__u64 bytes = ads_block_bytes(a, word);

		if (!word && at >= cursor)
			break;
		if (!bytes || !ads_arena_reaches(a, at + bytes)) {
			ads_check_error(&c, at);
			break;
		}
		if ((word & 3) == ADS_BLOCK_TABLE && ((__u32)word & ~63u) == ref.offset) {
			__u32 place = ads_array_word(ref.offset, (__u32)(word >> 32));
			__u64 names = ads_bad(a, place, 8) ? ~0ull : ads_load_acquire(ads_at(a, __u64, place)); /* A15 */

			if (names != at + 8 && (names || at < cursor))
				ads_check_error(&c, at);
		}
		at += bytes;
	}
	if (repair && !report->errors)
		ads_check_finish(a);
	return ADS_OK;
}

/* Which entries living threads name as theirs. */
static inline void ads_check_hands(struct ads_arena *a, struct ads_check_doubts *d)
{
	__u32 first, i, h, count = ads_owners(a, &first);

	d->hands = 0;
	if (count && ads_bad(a, first, 64ull * count))
		return;
	for (i = 0; i < count; i++) {
		const struct ads_owner *line = ads_at(a, struct ads_owner, first + 64 * i);
		__u64 who = ads_load_acquire(&line->who); /* A21, pairs with R21 */
		int dead = -1;

		for (h = 0; who && h < 2; h++) {
			__u32 entry = (__u32)ads_load_acquire(&line->hand[h]) & ADS_HAND_ENTRY; /* A19, pairs with R19 */

			if (entry && dead < 0)
				dead = ads_owner_is_dead(line, who);
			if (entry && !dead)
				d->held[d->hands++] = entry;
		}
	}
}

/* Whether a thread is one of this process, or is the same one seen from elsewhere. */
static inline int ads_check_is_own(const struct ads_owner *line, __u64 who)
{
	char place[64];

	if (ads_load(&line->where) != ads_pid_namespace())
		return 0;
	snprintf(place, sizeof(place), "/proc/self/task/%u", (__u32)(who & ADS_OWNER_ID));
	return !access(place, F_OK);
}

/*
 * Which threads of other processes live and have a line in the registry: they may be writing. Their ids, as they
 * were in their pid namespaces, in `threads`, up to `most` of them. Returns how many there are. BPF programs have no
 * lines.
 */
static inline __u32 ads_check_writers(struct ads_arena *a, __u32 *threads, __u32 most)
{
	__u32 first, i, found = 0, count = ads_owners(a, &first);

	if (count && ads_bad(a, first, 64ull * count))
		return 0; /* damage, which a check tells */
	for (i = 0; i < count; i++) {
		const struct ads_owner *line = ads_at(a, struct ads_owner, first + 64 * i);
		__u64 who = ads_load_acquire(&line->who); /* A21, pairs with R21 */

		if (!who || ads_owner_is_dead(line, who) || ads_check_is_own(line, who))
			continue;
		if (found < most)
			threads[found] = (__u32)(who & ADS_OWNER_ID);
		found++;
	}
	return found;
}

/* Begin to look at a structure again. Nothing was seen where the arena has not reached yet. */
static inline void ads_check_begin(struct ads_check *c)
{
	__u64 reach = __atomic_load_n(&c->a->limit, __ATOMIC_RELAXED);

	memset(c->report, 0, sizeof(*c->report));
	memset(c->linked, 0, reach / 64 + 1);
	memset(c->freed, 0, reach / 64 + 1);
	memset(c->seen, 0, (reach / 32 + 1) * sizeof(__u32));
	c->lost = 0;
	c->again = 0;
}

/* Look until nothing looks wrong, or the same things have each time. */
static inline void ads_check_looks(struct ads_check *c, __u32 kind, struct ads_ref ref)
{
	struct ads_check_doubts *d = c->doubts;

	for (d->look = 0; d->look < ADS_CHECK_LOOKS; d->look++) {
		unsigned char *before = d->before;

		if (d->look) {
			ads_grace_period(c->a);
			ads_check_begin(c);
		}
		ads_check_hands(c->a, d);
		ads_check_all(c, kind, ref, 0);
		if (c->rc || (!c->report->errors && !c->report->leaked))
			return;
		d->before = d->now;
		d->now = before;
		memset(d->now, 0, __atomic_load_n(&c->a->limit, __ATOMIC_RELAXED) / 64 + 1);
	}
}

/* As long as nobody else works on the structure. */
static inline void ads_check_once(struct ads_check *c, __u32 kind, struct ads_ref ref, int repair)
{
	__u64 deleted;
	__u32 i;

	ads_check_all(c, kind, ref, 0);
	if (!repair || c->report->errors)
		return;
	deleted = c->report->deleted;
	for (i = 0; i <= ADS_LEVELS; i++)
		ads_check_sweep(c->a, kind, ads_check_walked(kind, ref), ads_check_start(c->a, kind, ref, i));
	ads_check_begin(c);
	ads_check_all(c, kind, ref, 1);
	c->report->leaked -= deleted < c->report->leaked ? deleted : c->report->leaked;
	c->report->deleted += deleted;
}

/* Check a structure that has entries. The memory for it is touched where entries are. */
static inline int ads_check_entries(struct ads_arena *a, __u32 kind, struct ads_ref ref, int repair, int live,
				    struct ads_check_report *report)
{
	__u64 bits = a->size / 64 + 1, cells = a->size / 32 + 1;
	struct ads_check c = ads_check_of(a, report);
	struct ads_check_doubts doubts;
	int rc = ADS_NO_MEMORY;

	memset(&doubts, 0, sizeof(doubts));
	c.linked = (unsigned char *)calloc(1, bits);
	c.freed = (unsigned char *)calloc(1, bits);
	c.seen = (__u32 *)calloc(cells, sizeof(__u32));
	if (live) {
		c.doubts = &doubts;
		doubts.leaked = (__u32 *)calloc(cells, sizeof(__u32));
		doubts.before = (unsigned char *)calloc(1, bits);
		doubts.now = (unsigned char *)calloc(1, bits);
	}
	if (c.linked && c.freed && c.seen && (!live || (doubts.leaked && doubts.before && doubts.now))) {
		if (live)
			ads_check_looks(&c, kind, ref);
		else
			ads_check_once(&c, kind, ref, repair);
		rc = c.rc;
	}
	free(c.linked);
	free(c.freed);
	free(c.seen);
	free(c.steps);
	free(doubts.leaked);
	free(doubts.before);
	free(doubts.now);
	return rc;
}

/* The towers of an ordered map are hints: only what is wrong with them counts. */
static inline int ads_check_towers(struct ads_arena *a, struct ads_ref index, int repair, int live,
				   struct ads_check_report *report)
{
	struct ads_check_report towers;
	int rc = ads_structure_check(a, ADS_KIND_INDEX, index);

	memset(&towers, 0, sizeof(towers));
	if (!rc)
		rc = ads_check_entries(a, ADS_KIND_INDEX, index, repair, live, &towers);
	if (rc)
		return rc;
	if (!report->errors)
		report->error_at = towers.error_at;
	report->errors += towers.errors;
	report->leaked += towers.leaked;
	report->repaired += towers.repaired;
	report->moving += towers.moving;
	return ADS_OK;
}

static inline int ads_check_structure(struct ads_arena *a, __u32 kind, struct ads_ref ref, int repair, int live,
				      struct ads_check_report *report)
{
	int rc = ads_structure_check(a, kind, ref);

	memset(report, 0, sizeof(*report));
	if (rc)
		return rc;
	if (repair && !ads_writable(a))
		return ADS_READ_ONLY;
	if (kind == ADS_KIND_RING)
		return ads_check_ring(a, ref, report);
	if (kind == ADS_KIND_ARRAY)
		return ads_array_check(a, ref, repair, report);
	rc = ads_check_entries(a, kind, ref, repair, live, report);
	if (!rc && kind == ADS_KIND_ORDEREDMAP)
		rc = ads_check_towers(a, ads_orderedmap_index(ref), repair && !report->errors, live, report);
	return rc;
}

/*
 * Check a structure that nobody works on. 0, or an error if it could not be checked at all; what was
 * found is in *report. `repair` gives leaked entries back: only while no writer is running.
 */
static inline int ads_collection_check(struct ads_arena *a, __u32 kind, struct ads_ref ref, int repair,
				       struct ads_check_report *report)
{
	return ads_check_structure(a, kind, ref, repair, 0, report);
}

/*
 * Check a structure that others may be working on, and change nothing. What is reported as leaked or as an
 * error is so for good, unless a BPF program that may sleep has held an entry through all looks.
 * Cost: where nothing looks wrong one walk, else ADS_CHECK_LOOKS with a grace period between.
 */
static inline int ads_collection_check_live(struct ads_arena *a, __u32 kind, struct ads_ref ref,
					    struct ads_check_report *report)
{
	return ads_check_structure(a, kind, ref, 0, 1, report);
}

/* --- the arena as a whole -------------------------------------------------------------------- */

struct ads_heap_report {
	__u64 blocks;	     /* from the start of the heap to the cursor */
	__u64 unnamed;	     /* blocks that no name leads to: removed structures, makers that died, others' own */
	__u64 unnamed_bytes; /* of them */
	__u64 writers;	     /* lines of the registry that are in use */
	__u64 errors;	     /* as in struct ads_check_report */
	__u64 error_at;
};

static inline int ads_kind_has_pool(__u32 kind)
{
	return kind && kind <= ADS_KIND_INDEX && kind != ADS_KIND_QUEUE && kind != ADS_KIND_RING &&
	       kind != ADS_KIND_ARRAY && kind != ADS_KIND_INTRUSIVE;
}

/* What is being found out of the heap: where blocks begin that may hold a structure, and which of
 * them something leads to. */
struct ads_heap_check {
	struct ads_arena *a;
	unsigned char *raw, *led_to;
	struct ads_heap_report *report;
	__u64 cursor; /* up to which blocks were looked at */
};

static inline void ads_heap_error(struct ads_heap_check *c, __u64 at)
{
	if (!c->report->errors++)
		c->report->error_at = at;
}

/* Whether a structure can be at an offset: alone in a block, or the towers in an ordered map's. */
static inline int ads_heap_has(const struct ads_heap_check *c, __u64 at)
{
	const __u64 index = __builtin_offsetof(struct ads_orderedmap, index);

	if (at >= c->a->size || at % ADS_LINE)
		return 0;
	return ads_check_seen(c->raw, (__u32)at) || (at > index && ads_check_seen(c->raw, (__u32)(at - index)));
}

/* Whether the owner of a chunk or table is a structure that has such. */
static inline int ads_heap_owned(const struct ads_heap_check *c, __u64 word)
{
	__u64 owner = (__u32)word & ~63u;
	__u32 kind;

	if ((word & 3) == ADS_BLOCK_CHUNK)
		owner -= __builtin_offsetof(struct ads_collection, pool);
	if (!ads_heap_has(c, owner) || ads_bad(c->a, (__u32)owner, sizeof(struct ads_header)))
		return 0;
	kind = ads_at(c->a, struct ads_header, owner)->kind;
	if ((word & 3) == ADS_BLOCK_CHUNK)
		return ads_kind_has_pool(kind);
	return ads_kind_has_table(kind) || kind == ADS_KIND_ARRAY;
}

/* Walk the blocks: one after the other they lead to the cursor, and each has an owner or is raw. */
static inline void ads_heap_blocks(struct ads_heap_check *c)
{
	__u64 cursor = ads_load_acquire(&ads_root_of(c->a)->cursor); /* A1, pairs with R1 */
	__u64 at = ADS_HEAP_OFFSET, bytes;

	c->cursor = cursor;
	for (; at < cursor; at += bytes) {
		/* A10, pairs with R10 */
		__u64 word = ads_arena_reaches(c->a, at + 8) ? ads_load_acquire(ads_at(c->a, __u64, at)) : 0;

		bytes = ads_block_bytes(c->a, word);
		if (!bytes || !ads_arena_reaches(c->a, at + bytes)) {
			ads_heap_error(c, at);
			return;
		}
		c->report->blocks++;
		if ((word & 3) == ADS_BLOCK_RAW)
			ads_check_mark(c->raw, (__u32)at + 8);
		else if (!ads_heap_owned(c, word))
			ads_heap_error(c, at);
	}
	if (at != cursor)
		ads_heap_error(c, ADS_ROOT_OFFSET + __builtin_offsetof(struct ads_root, cursor));
}

/* The registry is the first block, and its lines name pools and entries that can be. */
static inline void ads_heap_owners(struct ads_heap_check *c)
{
	__u64 word = ads_load(&ads_root_of(c->a)->owners);
	__u32 first, i, h, count = ads_owners(c->a, &first);

	if (!word)
		return;
	if (!count || !ads_heap_has(c, first) || ads_bad(c->a, first, 64ull * count) ||
	    8 + 64ull * count > ads_block_bytes(c->a, ads_load(ads_at(c->a, __u64, first - 8)))) {
		ads_heap_error(c, ADS_ROOT_OFFSET + __builtin_offsetof(struct ads_root, owners));
		return;
	}
	ads_check_mark(c->led_to, first);
	for (i = 0; i < count; i++) {
		struct ads_owner *line = ads_at(c->a, struct ads_owner, first + 64 * i);
		__u64 pool = ads_load(&line->pool);

		c->report->writers += !!ads_load(&line->who);
		if (pool && !ads_heap_has(c, pool - __builtin_offsetof(struct ads_collection, pool)))
			ads_heap_error(c, first + 64 * i);
		for (h = 0; h < 2; h++) {
			__u32 entry = (__u32)ads_load(&line->hand[h]) & ADS_HAND_ENTRY;

			if (entry && (entry < ADS_HEAP_OFFSET || entry >= ads_load(&ads_root_of(c->a)->cursor)))
				ads_heap_error(c, first + 64 * i);
		}
	}
}

/* Each name leads to a structure of its kind, and to its description. */
static inline void ads_heap_names(struct ads_heap_check *c)
{
	struct ads_directory_value value;
	struct ads_check_report list;
	struct ads_scan scan;
	char last[ADS_NAME_SIZE] = {0}, name[ADS_NAME_SIZE];
	struct ads_ref ref;
	__u32 entry;
	int rc = ads_directory(c->a, 0, &ref);

	if (rc == ADS_ABSENT)
		return;
	if (rc || !ads_heap_has(c, ref.offset)) {
		ads_heap_error(c, ADS_ROOT_OFFSET + __builtin_offsetof(struct ads_root, directory));
		return;
	}
	ads_check_mark(c->led_to, ref.offset);
	/* A walk in circles would end by its budget only: that is the directory's damage, told there. */
	if (ads_collection_check(c->a, ADS_KIND_LIST, ref, 0, &list) || list.errors)
		return;
	rc = ads_scan_start(c->a, &scan, ads_list_head(ref));
	while (!rc && !(rc = ads_scan_next(c->a, &scan, ref, last, name, &value, &entry))) {
		memcpy(last, name, sizeof(last));
		/* A structure that has been made since the blocks were looked at is not at one that is known. */
		if (value.offset >= c->cursor && value.offset < ads_load(&ads_root_of(c->a)->cursor))
			continue;
		if (!name[0] || name[ADS_NAME_SIZE - 1] ||
		    scan.hash != ads_hash(name, ADS_NAME_SIZE, ADS_DIRECTORY_SEED) ||
		    !ads_heap_has(c, value.offset) || ads_bad(c->a, value.offset, sizeof(struct ads_header)) ||
		    ads_at(c->a, struct ads_header, value.offset)->kind != value.kind ||
		    (value.schema_size && ads_bad(c->a, value.schema_offset, value.schema_size))) {
			if (ads_load(ads_link_of(c->a, entry)) == scan.walk.link) /* else removed meanwhile */
				ads_heap_error(c, entry);
			continue;
		}
		ads_check_mark(c->led_to, value.offset);
		if (value.schema_size)
			ads_check_mark(c->led_to, value.schema_offset);
	}
	if (rc != ADS_ABSENT)
		ads_heap_error(c, ref.offset); /* its list has no end */
}

/* Count the blocks that nothing leads to. */
static inline void ads_heap_unnamed(struct ads_heap_check *c)
{
	__u64 at;

	for (at = ADS_HEAP_OFFSET + 8; at < c->a->limit; at += ADS_LINE)
		if (ads_check_seen(c->raw, (__u32)at) && !ads_check_seen(c->led_to, (__u32)at)) {
			c->report->unnamed++;
			c->report->unnamed_bytes += ads_block_bytes(c->a, ads_load(ads_at(c->a, __u64, at - 8)));
		}
}

/*
 * Check what is of no structure: that blocks fill the heap and have owners that can have them, the
 * registry, and where names lead. What is in the structures, and in the list of the names, is for
 * ads_collection_check() and ads_directory_check(). Changes nothing; as live as these.
 */
static inline int ads_heap_check(struct ads_arena *a, struct ads_heap_report *report)
{
	struct ads_heap_check c = {a, (unsigned char *)calloc(1, a->size / 64 + 1),
				   (unsigned char *)calloc(1, a->size / 64 + 1), report, 0};
	int rc = ADS_NO_MEMORY;

	memset(report, 0, sizeof(*report));
	if (c.raw && c.led_to) {
		ads_heap_blocks(&c);
		ads_heap_owners(&c);
		ads_heap_names(&c);
		ads_heap_unnamed(&c);
		rc = ADS_OK;
	}
	free(c.raw);
	free(c.led_to);
	return rc;
}

static inline int ads_check_directory(struct ads_arena *a, int repair, int live, struct ads_check_report *report)
{
	struct ads_ref ref;
	int rc = ads_directory(a, 0, &ref);

	memset(report, 0, sizeof(*report));
	if (rc == ADS_ABSENT)
		return ADS_OK;
	if (!rc)
		return ads_check_structure(a, ADS_KIND_LIST, ref, repair, live, report);
	report->errors = 1;
	report->error_at = ref.offset ? ref.offset : ADS_ROOT_OFFSET + __builtin_offsetof(struct ads_root, directory);
	return ADS_OK;
}

/*
 * Check the directory's list, as ads_collection_check(): an entry that is leaked in it was of
 * somebody who died while naming or removing a structure. All is 0 while there is no directory.
 */
static inline int ads_directory_check(struct ads_arena *a, int repair, struct ads_check_report *report)
{
	return ads_check_directory(a, repair, 0, report);
}

/* The same as ads_collection_check_live(). */
static inline int ads_directory_check_live(struct ads_arena *a, struct ads_check_report *report)
{
	return ads_check_directory(a, 0, 1, report);
}

#endif /* !ADS_BPF */
#endif /* ARENADS_CHECK_H */
