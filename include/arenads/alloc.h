/* SPDX-License-Identifier: MIT */
/*
 * alloc.h - memory: a bump allocator of blocks, and typed pools of entries on it.
 *
 * Blocks stand one after the other from ADS_HEAP_OFFSET on. A block is an 8-byte
 * header word and a payload that starts on a cache line:
 *
 *	        header          payload            header
 *	      +---------+----------------------+---------+----
 *	      | 8 bytes |  64n - 8 bytes       | 0       |      (not claimed yet)
 *	      +---------+----------------------+---------+----
 *	offset % 64 == 56                      ^ root.cursor
 *
 *	header  63..32 size in lines (raw), entries (chunk of a pool), log2 of shortcuts
 *	               (table), number (chunk of an array)
 *	        31..6  owner / 64: the pool (chunk), the structure (table)
 *	        5..2   shard of that pool (chunk)
 *	        1..0   1 raw block, 2 chunk of a pool, 3 a structure's: the owner's kind says
 *	               what, the table of a hash map or a chunk of an array
 *
 * Claiming is one CAS of a header word from 0. The word says everything that is
 * still to be done (give the chunk to its shard or its array, add it to the pool's books,
 * publish the table, move the cursor), so the next one who allocates does it if the
 * claimer has died.
 * So the heap can be walked, and no death ever leaks a block.
 *
 * A pool hands out entries of one size. Freed entries go on a stack, one a shard;
 * a shard belongs to nobody, the CPU number only spreads the traffic, so nesting
 * and migration are harmless. The entries below a free one are counted in it, so
 * that a pool knows its free entries without a counter to keep.
 *
 * Who may call     BPF (any program, any nesting, not sleepable too) and user space.
 *                  User space populates more when it needs to; BPF never can and gets
 *                  ADS_NO_MEMORY when nothing populated is left.
 * Cost             take an entry: 1 CAS on the shard's line, 1 read of the entry. Give one
 *                  back: the same, and a look at the line of the spare entries. In user space see owner.h.
 *                  BPF replacing: 1 CAS for both, on its CPU's line.
 *                  A chunk of fresh entries: 4 CAS, about once per 4 KiB.
 * Commit           block: CAS of the header word 0 -> claim. entry: CAS of the shard's
 *                  stack or chunk word.
 * Death            before the commit: nothing. Between the commit and the entry's own
 *                  publication (list.h): that one entry is leaked, check finds it.
 * Memory runs out  ADS_NO_MEMORY, counted in the root and in the structure.
 * Limits           4095 entries a chunk, 4 GiB an arena. Memory of a pool stays the pool's.
 */
#ifndef ARENADS_ALLOC_H
#define ARENADS_ALLOC_H

#include "layout.h"
#include "owner.h"
#if !ADS_BPF
#include "memory.h"
#endif

#define ADS_CHUNK_BYTES 4088u /* aim: a chunk with its header fills a page */
#define ADS_SPARES 16u /* entries kept for replacing while a pool is full */

struct ads_pool_ref {
	__u32 offset;
	__u32 stride;
	__u32 life; /* where in an entry the word is that counts its lives, 0: nowhere */
};

static ADS_INLINE struct ads_pool_ref ads_pool_of(struct ads_ref ref)
{
	struct ads_pool_ref pool = {
		(__u32)(ref.offset + __builtin_offsetof(struct ads_collection, pool)),
		ads_entry_stride(ref),
		ref.flags & ADS_LIVES ? ads_entry_value_offset(ref) - 8 : 0,
	};
	return pool;
}

/* --- which shard ---------------------------------------------------------------------- */

#if ADS_BPF
static __u32 (*const ads_bpf_get_smp_processor_id)(void) = (__u32(*)(void))8;
#define ads_this_shard() (ads_bpf_get_smp_processor_id() & (ADS_SHARDS - 1))
#else
#include <sched.h>
static ADS_INLINE __u32 ads_this_shard(void)
{
	return (__u32)sched_getcpu() & (ADS_SHARDS - 1);
}
#endif

/* Offset of a shard. */
static ADS_INLINE __u32 ads_shard_place(struct ads_pool_ref pool, __u32 shard)
{
	return pool.offset + (__u32)__builtin_offsetof(struct ads_pool, shards) + (__u32)sizeof(struct ads_shard) * shard;
}

#define ads_shard_of(arena, pool, shard) ads_at(arena, struct ads_shard, ads_shard_place(pool, shard))

/* --- blocks ----------------------------------------------------------------------------- */

/* Bytes of a block with `count` entries, or of `count` lines if stride is 0. */
static ADS_INLINE __u64 ads_block_size(__u64 count, __u32 stride)
{
	return stride ? (8 + count * stride + ADS_LINE - 1) & ~(__u64)(ADS_LINE - 1) : count * ADS_LINE;
}

/* Bytes of a block with a table of 2^bits shortcuts. */
static ADS_INLINE __u64 ads_table_size(__u64 bits)
{
	return ads_block_size(1, (__u32)sizeof(struct ads_table) + (8u << bits));
}

/* Bytes of the block with chunk `number` of the array at `owner`, 0 if it has no such chunk. */
static ADS_INLINE __u64 ads_array_block_size(struct ads_arena *a, __u32 owner, __u64 number)
{
	const struct ads_header __arena *h = ads_at(a, struct ads_header, owner);
	__u32 bytes = h->first;

	(void)a;
#if !ADS_BPF /* whose stack is short: there the header is believed, as a pool's stride is */
	if (h->value_size > ADS_MAX_VALUE || bytes != ads_array_chunk_bytes(h->value_size)) {
		a->damaged_at = owner;
		return 0;
	}
#endif
	return number < h->most ? bytes : 0;
}

static ADS_INLINE int ads_is_array(struct ads_arena *a, __u32 owner)
{
	(void)a;
	return ads_at(a, struct ads_header, owner)->kind == ADS_KIND_ARRAY;
}

/* Bytes of the block whose header word is `word`, 0 if it can be no block. */
static ADS_INLINE __u64 ads_block_bytes(struct ads_arena *a, __u64 word)
{
	__u64 count = word >> 32;
	__u32 owner = (__u32)word & ~63u;
	__u32 stride;

	(void)a;
	if ((word & 3) == ADS_BLOCK_RAW)
		return ads_block_size(count, 0);
	if ((word & 3) == ADS_BLOCK_TABLE) {
		if (ads_bad(a, owner, sizeof(struct ads_header)))
			return 0;
		if (ads_is_array(a, owner))
			return ads_array_block_size(a, owner, count);
		return count > 28 ? 0 : ads_table_size(count);
	}
	if ((word & 3) != ADS_BLOCK_CHUNK || ads_bad(a, owner, sizeof(struct ads_pool)))
		return 0;
	stride = ads_at(a, struct ads_pool, owner)->stride;
	if (!stride || stride & 31 || count > 0xffff)
		return 0;
	return ads_block_size(count, stride);
}

/* Offset of the word that a finished claim for a structure sets: the table word of a hash map,
 * the chunk's of an array. */
static ADS_INLINE __u32 ads_claim_place(struct ads_arena *a, __u64 claim)
{
	__u32 owner = (__u32)claim & ~63u;

	return ads_is_array(a, owner) ? ads_array_word(owner, (__u32)(claim >> 32))
				      : owner + (__u32)__builtin_offsetof(struct ads_header, table);
}

/* Give a claimed chunk to its shard, if it has not been given: `at` is the offset of its header word. */
static ADS_INLINE void ads_chunk_give(struct ads_arena *a, __u32 at, __u64 word)
{
	struct ads_pool_ref pool = {(__u32)word & ~63u, 0, 0};
	struct ads_shard __arena *shard = ads_shard_of(a, pool, (word >> 2) & 15);
	__u64 old = ads_load(&shard->chunk);

	(void)a;
	if ((__u32)old < at)
		ads_cas(&shard->chunk, old, (word >> 32 << 48) | (at + 8)); /* R12 */
}

/*
 * Finish a claim: everything here may be done by anyone, any number of times. Offsets
 * of blocks only grow, so "has it been done" is one comparison.
 */
static ADS_INLINE int ads_block_finish(struct ads_arena *a, __u32 at, __u64 word)
{
	struct ads_root __arena *root = ads_root_of(a);
	__u64 bytes = ads_block_bytes(a, word);
	__u64 count = word >> 32;
	__u64 old;

	if (!bytes)
		return ADS_DAMAGED;
#if !ADS_BPF
	if (bytes > a->size || at + bytes > a->size) {
		a->damaged_at = at;
		return ADS_DAMAGED;
	}
#endif
	if ((word & 3) == ADS_BLOCK_CHUNK) {
		struct ads_pool __arena *p = ads_at(a, struct ads_pool, (__u32)word & ~63u);

		old = ads_load(&p->carved);
		if ((__u32)old < at)
			ads_cas(&p->carved, old, (((old >> 32) + count) << 32) | at); /* R11 */
		ads_chunk_give(a, at, word);
	}
	if ((word & 3) == ADS_BLOCK_TABLE) {
		__u32 place = ads_claim_place(a, word);
		__u64 now = at + 8;

		if (ads_bad(a, place, 8))
			return ADS_DAMAGED;
		old = ads_load(ads_at(a, __u64, place));
		if ((__u32)old < at) {
			/* The same for all who get here: the word changes only in this place, and
			 * not again before the cursor has moved. */
			if (!ads_is_array(a, (__u32)word & ~63u)) {
				ads_store(&ads_at(a, struct ads_table, at + 8)->previous, old);
				now |= (64 - count) << 32;
			}
			ads_cas(ads_at(a, __u64, place), old, now); /* R6, R15 */
		}
	}
	ads_cas(&root->cursor, at, at + bytes); /* R1 */
	return ADS_OK;
}

/* How many entries a pool that has carved `have` takes in one go. */
static ADS_INLINE __u32 ads_chunk_count(__u32 stride, __u32 capacity, __u32 have)
{
	/* Smaller chunks towards the end, so that one shard does not hold all that is left. */
	__u32 share = have < capacity ? (capacity - have) / 4 : 0;
	__u32 count = ADS_CHUNK_BYTES / stride;

	count = count > share ? share : count;
	return count ? count : 1;
}

/*
 * Whether somebody else has claimed meanwhile what this claim is for: the words of its owner
 * are not any more what the claimer saw when it decided that it needs a block.
 */
static ADS_INLINE int ads_claim_gone(struct ads_arena *a, __u64 claim, __u64 saw, __u64 saw_chunk)
{
	__u32 owner = (__u32)claim & ~63u;
	struct ads_pool_ref pool = {owner, 0, 0};

	if ((claim & 3) == ADS_BLOCK_TABLE)
		return ads_load(ads_at(a, __u64, ads_claim_place(a, claim))) != saw;
	if ((claim & 3) == ADS_BLOCK_CHUNK)
		return ads_load(&ads_at(a, struct ads_pool, owner)->carved) != saw ||
		       ads_load(&ads_shard_of(a, pool, (claim >> 2) & 15)->chunk) != saw_chunk;
	return 0;
}

/* What follows from x is worked out anew after this, where it is needed: kept from one round of a
 * loop to the next it would take BPF's short stack. */
#define ads_forget(x) __asm__ volatile("" : "+r"(x))

/*
 * Claim the next block with header word `claim`; a chunk gets fewer entries if only so much
 * is populated. Returns the number of the payload's first line. ADS_EXISTS: the need is gone.
 *
 * Why that is compared after the cursor is read: a finished claim changes the words of its
 * owner before it moves the cursor, and a new one for this cursor makes our CAS fail. So a
 * chunk never takes the place of one with entries left, and of two that want to grow one
 * table, or to make the same chunk of an array, only one gets a block.
 */
ADS_GLOBAL int ads_block_claim(struct ads_arena *a, __u64 claim, __u64 saw, __u64 saw_chunk)
{
	struct ads_root __arena *root = ads_root_of(a);
	int mine = 0;
	__u32 i;

	for (ads_loop(i)) {
		__u64 cursor = ads_load_acquire(&root->cursor);	      /* A1, pairs with R1 */
		__u64 populated = ads_load_acquire(&root->populated); /* A9, pairs with R9 */
		__u64 __arena *header = ads_at(a, __u64, cursor);
#if ADS_BPF
		const __u64 size = ADS_MAX_SIZE; /* what it is, a program does not know */
#else
		const __u64 size = a->size;
#endif
		__u64 word = 0;

		ads_forget(claim);
		if (cursor % ADS_LINE != 56 || cursor < ADS_HEAP_OFFSET || cursor >= size || populated > size) {
#if !ADS_BPF
			a->damaged_at = ADS_ROOT_OFFSET;
#endif
			return ADS_DAMAGED;
		}
		if (cursor + 8 <= populated)
			word = ads_load_acquire(header); /* A10, pairs with R10 */
		if (!word) {
			__u64 bytes = ads_block_bytes(a, claim);

			if (!bytes)
				return ADS_DAMAGED;
			if (ads_claim_gone(a, claim, saw, saw_chunk))
				return ADS_EXISTS;
			/* Words of finished claims name places before the cursor. One that does not
			 * could never be replaced: claim after claim would be lost. */
			if ((claim & 3) != ADS_BLOCK_RAW && ((__u32)saw >= cursor || (__u32)saw_chunk > cursor))
				return ADS_DAMAGED;
			if (cursor + bytes > populated) {
#if !ADS_BPF
				int rc = ads_arena_populate(a, cursor + bytes);

				if (!rc)
					continue;
				if (rc != ADS_NO_MEMORY)
					return rc;
#endif
				if ((claim & 3) != ADS_BLOCK_CHUNK || claim >> 32 == 1)
					return ADS_NO_MEMORY;
				claim = (1ull << 32) | (__u32)claim;
				continue;
			}
			/* Commit. R10: who finishes it for us sees the owner as we do. */
			if (ads_cas(header, 0, claim))
				continue;
			mine = 1;
			word = claim;
		}
		/* Ours, or that of somebody who is slow, or dead: finish it. */
		if (ads_block_finish(a, (__u32)cursor, word))
			return ADS_DAMAGED;
		if (mine)
			return (int)((cursor + 8) >> 6);
	}
	return ADS_BUDGET;
}

/*
 * Allocate a raw block of `bytes` zeroed bytes that stays for the life of the arena;
 * *offset becomes the payload's, on a cache line, never 0.
 */
static ADS_INLINE int ads_alloc(struct ads_arena *a, __u64 bytes, __u32 *offset)
{
	__u64 lines = (bytes + 8 + ADS_LINE - 1) / ADS_LINE;
	int rc;

	if (!bytes || bytes > ADS_MAX_SIZE)
		return ADS_INVALID;
	if (!ads_writable(a))
		return ADS_READ_ONLY;
	rc = ads_block_claim(a, (lines << 32) | ADS_BLOCK_RAW, 0, 0);
	if (rc == ADS_NO_MEMORY) {
		ads_add(&ads_root_of(a)->no_memory, 1);
#if !ADS_BPF
		a->damaged_at = bytes;
#endif
	}
	if (rc < 0)
		return rc;
	*offset = (__u32)rc << 6;
	return ADS_OK;
}

/* --- pools -------------------------------------------------------------------------------- */

#define ADS_NOWHERE (~0u) /* no offset: what was read cannot be one */

/* Help on what user space has begun at `top`, the word of a shard's stack; see owner.h. */
static ADS_INLINE void ads_shard_help(struct ads_arena *a, struct ads_shard __arena *shard, __u64 top)
{
	struct ads_entry __arena *e = ads_at(a, struct ads_entry, (__u32)top & ~ADS_TOP_FLAGS);
	__u64 link = ads_load_acquire(&e->link); /* A3, pairs with R3: and before the top again */
	__u64 below;

	/* While the top is the same the entry is at it, so what was read is about this turn; later
	 * the CAS fails: the link has another version then. */
	if (ads_load(&shard->free) != top)
		return;
	if (!((__u32)top & ADS_TOP_TAKEN)) {
		if ((__u32)link == ADS_LINK_PUSHING)
			ads_cas(&e->link, link, ads_link_set_state(link, ADS_LINK_FREE)); /* R3 */
		return;
	}
	if ((__u32)link == ADS_LINK_FREE)
		ads_cas(&e->link, link, ads_link_set_state(link, ADS_LINK_TAKEN)); /* R3 */
	below = ads_load(&e->hash);
	ads_cas(&shard->free, top, (((top >> 32) + 1) << 32) | (__u32)below); /* R2 */
}

/* Whether something at the top of a stack must be helped on first. It was, if so. */
static ADS_INLINE int ads_shard_helped(struct ads_arena *a, struct ads_shard __arena *shard, __u64 top)
{
	__u32 entry = (__u32)top & ~ADS_TOP_FLAGS;

	if (ADS_LIKELY(!((__u32)top & ADS_TOP_FLAGS)) || ads_bad(a, entry, sizeof(struct ads_entry)))
		return 0;
	/* A3, pairs with R3. */
	if (!((__u32)top & ADS_TOP_TAKEN) &&
	    (__u32)ads_load_acquire(&ads_at(a, struct ads_entry, entry)->link) != ADS_LINK_PUSHING)
		return 0;
	ads_shard_help(a, shard, top);
	return 1;
}

/* Try once to pop the entry that `top`, the word of a shard's stack, leads to: its offset, 0 if the
 * stack has changed, or ADS_NOWHERE. */
static ADS_INLINE __u32 ads_shard_pop_top(struct ads_arena *a, struct ads_shard __arena *shard,
					  struct ads_pool_ref pool, __u64 top)
{
	__u32 entry = (__u32)top & ~ADS_TOP_FLAGS;
	__u64 below;

	if (ads_bad(a, entry, pool.stride))
		return ADS_NOWHERE;
	if (ads_shard_helped(a, shard, top))
		return 0;
	if (ads_by_user()) {
		__u64 taken = (((top >> 32) + 1) << 32) | entry | ADS_TOP_TAKEN;

		ads_hand_take(a, pool.offset, entry,
			      ads_link_later(ads_load(&ads_at(a, struct ads_entry, entry)->link)));
		/* R2, and R13: what the taker writes into the entry comes after what the others did. */
		if (ads_cas(&shard->free, top, taken) != top)
			return 0;
		ads_shard_help(a, shard, taken);
		return entry;
	}
	/* May be stale if the entry was just taken: then the CAS fails on the version. */
	below = ads_load(&ads_at(a, struct ads_entry, entry)->hash);
	/* R2, R13, as above. */
	return ads_cas(&shard->free, top, (((top >> 32) + 1) << 32) | (__u32)below) == top ? entry : 0;
}

/* Pop a free entry of a shard: its offset, 0 if there is none, or ADS_NOWHERE. */
static ADS_INLINE __u32 ads_shard_pop(struct ads_arena *a, struct ads_shard __arena *shard, struct ads_pool_ref pool)
{
	__u32 i;

	for (ads_loop(i)) {
		__u64 top = ads_load_acquire(&shard->free); /* A2, pairs with R2 */
		__u32 entry;

		if (!(__u32)top)
			return 0;
		entry = ads_shard_pop_top(a, shard, pool, top);
		if (entry)
			return entry;
	}
	return 0;
}

/* The entry of a chunk, given a shard's word, that is taken next. */
static ADS_INLINE __u32 ads_chunk_next(__u64 chunk, struct ads_pool_ref pool)
{
	return ((__u32)chunk & ~ADS_TOP_FLAGS) + (__u32)((chunk >> 32) & 0xffff) * pool.stride;
}

/* Finish taking the entry of a chunk that user space has spoken for. */
static ADS_INLINE void ads_chunk_help(struct ads_arena *a, struct ads_shard __arena *shard, __u64 chunk, __u32 entry)
{
	__u64 __arena *link = &ads_at(a, struct ads_entry, entry)->link;
	__u64 fresh = ads_load_acquire(link); /* A3, pairs with R3: and before the chunk again */

	if (ads_load(&shard->chunk) != chunk)
		return;
	if (!fresh)
		ads_cas(link, 0, ads_link_set_state(0, ADS_LINK_TAKEN)); /* R3 */
	ads_cas(&shard->chunk, chunk, chunk + (1ull << 32) - ADS_TOP_TAKEN); /* R12 */
}

/* Take a never used entry from a shard's chunk: as ads_shard_pop. */
static ADS_INLINE __u32 ads_shard_take(struct ads_arena *a, struct ads_shard __arena *shard, struct ads_pool_ref pool)
{
	__u32 i;

	for (ads_loop(i)) {
		__u64 chunk = ads_load_acquire(&shard->chunk); /* A12, pairs with R12 */
		__u32 taken = (chunk >> 32) & 0xffff;
		__u32 entry = ads_chunk_next(chunk, pool);

		if (taken >= chunk >> 48)
			return 0;
		if (ads_bad(a, entry, pool.stride))
			return ADS_NOWHERE;
		if ((__u32)chunk & ADS_TOP_TAKEN) {
			ads_chunk_help(a, shard, chunk, entry);
			continue;
		}
		if (!ads_by_user()) {
			if (ads_cas(&shard->chunk, chunk, chunk + (1ull << 32)) == chunk) /* R12 */
				return entry;
			continue;
		}
		ads_hand_take(a, pool.offset, entry, 1);
		if (ads_cas(&shard->chunk, chunk, chunk | ADS_TOP_TAKEN) == chunk) { /* R12 */
			ads_chunk_help(a, shard, chunk | ADS_TOP_TAKEN, entry);
			return entry;
		}
	}
	return 0;
}

/* Entries on a shard's stack, given its top: it is written in the topmost. */
static ADS_INLINE __u32 ads_shard_depth(struct ads_arena *a, __u64 top, __u32 stride)
{
	__u32 entry = (__u32)top & ~ADS_TOP_FLAGS;

	(void)stride;
	if (!entry || ads_bad(a, entry, stride))
		return 0;
	return (__u32)(ads_load(&ads_at(a, struct ads_entry, entry)->hash) >> 32) - !!((__u32)top & ADS_TOP_TAKEN);
}

/* Try once to put an entry on a stack, whose top is `top`, of less than `limit` entries: 1 done,
 * 0 try again, -1 there are as many. */
static ADS_INLINE int ads_shard_push(struct ads_arena *a, struct ads_shard __arena *shard, __u64 top, __u32 stride,
				     __u32 entry, __u32 limit)
{
	__u64 depth = ads_shard_depth(a, top, stride);

	/* If the depth is stale the CAS will fail: taking the top changes the version. */
	if (depth >= limit) {
		ads_fence_acquire(); /* F2: the depth counts if the top is still the top */
		return ads_load(&shard->free) == top ? -1 : 0;
	}
	/* R13 for those who still look at the entry as a deleted one: its link was marked before. */
	ads_store_release(&ads_at(a, struct ads_entry, entry)->hash, ((depth + 1) << 32) | ((__u32)top & ~ADS_TOP_FLAGS));
	/* R2: the entry's words are visible before the entry is. */
	return ads_cas(&shard->free, top, (((top >> 32) + 1) << 32) | entry | (ads_by_user() ? ADS_TOP_USER : 0)) == top;
}

/*
 * Entries in use: live, in somebody's hands, or leaked. Every word that goes into it has a
 * version or only grows, so two equal readings are a snapshot; if there are none in a few
 * tries, the last reading, which others were busy changing.
 */
ADS_GLOBAL __u32 ads_pool_used(struct ads_arena *a, __u32 pool_offset, __u32 stride)
{
	struct ads_pool_ref pool = {pool_offset, stride, 0};
	const __u64 __arena *books = &ads_at(a, struct ads_pool, pool_offset)->carved;
	__u64 sum = 0, before;
	__u32 carved = 0, available = 0;
	__u32 tries, s;

	for (ads_each(tries, 4)) {
		__u32 was = available;
		__u64 word = ads_load_acquire(books); /* A11, pairs with R11 */
		__u32 newest = (__u32)word;
		__u64 claim = newest && !ads_bad(a, newest + 8, 8) ? ads_load(ads_at(a, __u64, newest)) : 0;

		before = sum;
		carved = (__u32)(word >> 32);
		sum = word;
		available = 0;
		for (ads_each(s, ADS_ALL_SHARDS)) {
			struct ads_shard __arena *shard = ads_shard_of(a, pool, s);
			__u64 chunk = ads_load_acquire(&shard->chunk); /* A12 */
			__u64 top = ads_load_acquire(&shard->free);    /* A2 */

			available += (__u32)(chunk >> 48) - (__u32)((chunk >> 32) & 0xffff) -
				     !!((__u32)chunk & ADS_TOP_TAKEN);
			__u64 spare = ads_load(&shard->spare);

			available += ads_shard_depth(a, top, stride) + !!(__u32)spare;
			/* The newest chunk may be in the books but not in its shard yet. */
			if (claim && s == ((claim >> 2) & 15) && (__u32)chunk < newest)
				available += (__u32)(claim >> 32);
			/* Any change of a word changes the sum of all, but for one in 2^64. */
			sum = (sum ^ chunk) * 0x9e3779b97f4a7c15ull;
			sum = (sum ^ top) * 0x9e3779b97f4a7c15ull;
			sum = (sum ^ spare) * 0x9e3779b97f4a7c15ull;
		}
		ads_fence_acquire(); /* F2: these depths before the tops of the next reading */
		if (sum == before) {
			available = was; /* its depths were read between the two readings of the tops */
			break;
		}
	}
	return available < carved ? carved - available : 0;
}

/*
 * Give the last chunk to its shard, if who claimed it has died between the pool's books and that: nobody
 * claims another for this pool, and would finish it on the way. `newest` is what the books name.
 */
static ADS_INLINE void ads_chunk_finish(struct ads_arena *a, struct ads_pool_ref pool, __u32 newest)
{
	__u64 word;

	if (!newest || ads_bad(a, newest + 8, pool.stride))
		return;
	word = ads_load(ads_at(a, __u64, newest)); /* after A11 */
	if ((word & 3) == ADS_BLOCK_CHUNK && ((__u32)word & ~63u) == pool.offset)
		ads_chunk_give(a, newest, word);
}

/*
 * The slow part of ads_pool_take: other shards' free entries, a new chunk, other shards'
 * chunks. Returns the entry's offset or an error.
 *
 * In BPF it is a global function: the verifier looks at it once, by itself, and not in
 * every program that inserts.
 */
ADS_GLOBAL __s64 ads_pool_refill(struct ads_arena *a, __u32 pool_offset, __u32 stride)
{
	struct ads_pool_ref pool = {pool_offset, stride, 0};
	struct ads_pool __arena *p = ads_at(a, struct ads_pool, pool_offset);
	__u32 mine = ads_this_shard();
	__u32 s, i, entry;
	int rc = ADS_BUDGET;

	if (p->stride != stride)
		return ADS_DAMAGED;
	for (ads_each(s, ADS_SHARDS)) {
		entry = ads_shard_pop(a, ads_shard_of(a, pool, (mine + s) & (ADS_SHARDS - 1)), pool);
		if (entry)
			return entry == ADS_NOWHERE ? (__s64)ADS_DAMAGED : (__s64)entry;
	}
	for (ads_loop(i)) {
		__u64 carved = ads_load_acquire(&p->carved); /* A11, pairs with R11 */
		__u64 chunk = ads_load(&ads_shard_of(a, pool, mine)->chunk);
		__u64 count = ads_chunk_count(stride, p->capacity, (__u32)(carved >> 32));

		if (((chunk >> 32) & 0xffff) < chunk >> 48) {
			entry = ads_shard_take(a, ads_shard_of(a, pool, mine), pool);
			if (entry)
				return entry == ADS_NOWHERE ? (__s64)ADS_DAMAGED : (__s64)entry;
			continue;
		}
		rc = ADS_FULL;
		if (carved >> 32 >= p->capacity) {
			ads_chunk_finish(a, pool, (__u32)carved);
			break;
		}
		rc = ads_block_claim(a, count << 32 | pool_offset | (mine << 2) | ADS_BLOCK_CHUNK, carved, chunk);
		if (rc < 0 && rc != ADS_EXISTS)
			break;
		rc = ADS_BUDGET;
	}
	for (ads_each(s, ADS_SHARDS)) {
		entry = ads_shard_take(a, ads_shard_of(a, pool, (mine + s) & (ADS_SHARDS - 1)), pool);
		if (entry)
			return entry == ADS_NOWHERE ? (__s64)ADS_DAMAGED : (__s64)entry;
	}
	if (rc == ADS_NO_MEMORY)
		ads_add(&ads_root_of(a)->no_memory, 1);
	return rc;
}

/*
 * Take an entry out of the pool: its offset in *entry. Contents are what the last owner
 * left; the link word is marked or zero. ADS_FULL: all that the pool may have are live, or
 * in the hands of writers; one killed there costs one entry until it is repaired.
 *
 * For `replacing` an entry a spare one will do. The next entry given back, by anyone, fills
 * the gap, so that inserts never get one and a full map stays at max_entries.
 */
static ADS_INLINE int ads_pool_take(struct ads_arena *a, struct ads_pool_ref pool, int replacing, __u32 *entry)
{
	struct ads_shard __arena *shard = ads_shard_of(a, pool, ads_this_shard());
	__s64 got;

	if (ads_bad(a, pool.offset, sizeof(struct ads_pool)))
		return ADS_DAMAGED;
	got = ads_shard_pop(a, shard, pool);
	if (!got)
		got = ads_shard_take(a, shard, pool);
	if (!got && replacing)
		got = ads_shard_pop(a, ads_shard_of(a, pool, ADS_SHARD_SPARES), pool);
	if (!got)
		got = ads_pool_refill(a, pool.offset, pool.stride);
	if (got == ADS_NOWHERE)
		got = ADS_DAMAGED;
	if (got <= 0)
		ads_hand_clear(a); /* others may be waiting to know that we did not get one */
	*entry = got > 0 ? (__u32)got : 0;
	return got > 0 ? ADS_OK : (int)got;
}

/*
 * Whether the spare shard is known to hold all it should: its top is the one that it had when somebody
 * looked at its depth. Until a spare entry is taken, who returns one reads a line for that
 * which nobody writes.
 */
static ADS_INLINE int ads_spares_suffice(struct ads_arena *a, struct ads_pool_ref pool)
{
	const struct ads_shard __arena *shard = ads_shard_of(a, pool, ADS_SHARD_SPARES);

	(void)a;
	return ads_load(&shard->free) == ads_load(&shard->enough);
}

/*
 * Give an entry back. `retired`: it was reachable until now, so it may have to wait. A
 * function of its own in BPF, so that it has a loop budget of its own: that of its caller may be
 * spent.
 *
 * An entry retires to the shard of the epoch. Who reads the top of that shard and then finds
 * the epoch unchanged has read the top before the shard was sealed (reclaim.h); if it is
 * sealed after that, the CAS fails.
 */
ADS_GLOBAL int ads_pool_return(struct ads_arena *a, __u32 pool_offset, __u32 stride, __u32 entry, __u32 retired)
{
	struct ads_pool_ref pool = {pool_offset, stride, 0};
	struct ads_pool __arena *p = ads_at(a, struct ads_pool, pool_offset);
	__u32 spares = p->spares;
	__u32 waits = retired && p->grace;
	__u32 at = ads_spares_suffice(a, pool) ? ads_this_shard() : ADS_SHARD_SPARES;
	__u64 __arena *link = &ads_at(a, struct ads_entry, entry)->link;
	__u32 version, i;

	version = ads_link_later(ads_load(link));
	/* R3: who still looks at the entry as a live one sees that it is not, before its words change. */
	ads_store_release(link, ads_link_set_state(ads_load(link), ads_by_user() ? ADS_LINK_PUSHING : ADS_LINK_FREE));
	for (ads_loop(i)) {
		__u64 epoch = waits ? ads_load(&p->epoch) : 0; /* the one after A2 counts */
		struct ads_shard __arena *shard =
			ads_shard_of(a, pool, waits ? ADS_SHARD_RETIRED + (epoch & 1) : at);
		__u64 top = ads_load_acquire(&shard->free); /* A2, pairs with R2 */
		int done;

		if (waits && ads_load(&p->epoch) != epoch)
			continue;
		if (ads_shard_helped(a, shard, top))
			continue;
		done = ads_shard_push(a, shard, top, stride, entry, waits || at != ADS_SHARD_SPARES ? ~0u : spares);
		if (done > 0) {
			if (ads_by_user()) {
				__u64 pushing = ads_load(link);

				/* Somebody may have done it, and more: then the version is another. */
				if (ads_link_version(pushing) == version)
					ads_cas(link, pushing, ads_link_set_state(pushing, ADS_LINK_FREE)); /* R3 */
				ads_hand_clear(a);
			}
			return ADS_OK;
		}
		if (done < 0) {
			ads_store(&shard->enough, top);
			at = ads_this_shard();
		}
	}
	/* Leaked: check finds it, and it is counted. */
	(void)version;
	return ads_count(a, pool_offset - (__u32)__builtin_offsetof(struct ads_collection, pool), ADS_BUDGET);
}

/*
 * The usual case of giving one back: by a BPF program, to the shard of its CPU, and nobody else is there. 0: it
 * was another. No call: where returns are guarded against speculation each costs as much as a CAS.
 */
static ADS_INLINE int ads_pool_return_at_once(struct ads_arena *a, struct ads_pool_ref pool, __u32 entry)
{
	struct ads_shard __arena *shard;
	__u64 __arena *link;
	__u64 top;

	if (ads_by_user() || !ads_spares_suffice(a, pool))
		return 0;
	shard = ads_shard_of(a, pool, ads_this_shard());
	top = ads_load_acquire(&shard->free); /* A2, pairs with R2 */
	if ((__u32)top & ADS_TOP_FLAGS)
		return 0;
	link = &ads_at(a, struct ads_entry, entry)->link;
	/* R3: as in ads_pool_return(). */
	ads_store_release(link, ads_link_set_state(ads_load(link), ADS_LINK_FREE));
	return ads_shard_push(a, shard, top, pool.stride, entry, ~0u) > 0;
}

/* Give back an entry that nobody else could reach since it was taken. */
static ADS_INLINE void ads_pool_give(struct ads_arena *a, struct ads_pool_ref pool, __u32 entry)
{
	ads_pool_return(a, pool.offset, pool.stride, entry, 0);
}

/* Those who still hold a deleted entry see by its life, if it counts them, that it is over. */
static ADS_INLINE void ads_pool_outlive(struct ads_arena *a, struct ads_pool_ref pool, __u32 entry)
{
	if (pool.life) {
		__u64 __arena *life = ads_at(a, __u64, entry + pool.life);

		ads_store_release(life, ads_load(life) + 1); /* R17 */
	}
}

/*
 * Give back an entry that was reachable, is deleted (its link is marked), and that no walk from
 * now on meets: only the one who has marked it may. `flags`: the structure's.
 */
static ADS_INLINE void ads_pool_retire(struct ads_arena *a, struct ads_pool_ref pool, __u32 flags, __u32 entry)
{
	ads_pool_outlive(a, pool, entry);
	/* Programs that delete from ordered maps have no stack left for it. */
	if (flags & (ADS_GRACE | ADS_LIVES) || !ads_pool_return_at_once(a, pool, entry))
		ads_pool_return(a, pool.offset, pool.stride, entry, 1);
}

/*
 * Take the spare entry of this CPU's shard, for replacing: its offset, or 0 if somebody has it, or there is
 * none. *lender becomes the shard's offset, and to that the taker gives it back, or the entry that it has
 * replaced. Until then nobody else writes the shard's word. User space could die with it, and nobody
 * would know to which shard an entry has to come back; so these are for BPF programs alone.
 */
static ADS_INLINE __u32 ads_spare_take(struct ads_arena *a, struct ads_pool_ref pool, __u32 *lender)
{
	__u32 at = ads_shard_place(pool, ads_this_shard());
	__u64 __arena *spare = &ads_at(a, struct ads_shard, at)->spare;
	__u64 word = ads_load(spare);

	(void)a;
	/* R2, R13, as when popping. */
	if (!(__u32)word || ads_cas(spare, word, word >> 32 << 32) != word)
		return 0;
	*lender = at;
	return (__u32)word;
}

/* Give an entry to the shard at `lender`, whose spare one this caller has taken. */
static ADS_INLINE void ads_spare_give(struct ads_arena *a, struct ads_pool_ref pool, __u32 lender, __u32 entry)
{
	__u64 __arena *spare = &ads_at(a, struct ads_shard, lender)->spare;
	__u64 __arena *link = &ads_at(a, struct ads_entry, entry)->link;

	ads_pool_outlive(a, pool, entry);
	/* R3: as when it is returned. */
	ads_store_release(link, ads_link_set_state(ads_load(link), ADS_LINK_FREE));
	ads_store_release(spare, ((ads_load(spare) >> 32) + 1) << 32 | entry); /* R2 */
}

/* --- objects of a pool --------------------------------------------------------------------------- */

/*
 * Allocate an object for the caller's own structure; *object becomes its offset, 16 behind
 * the entry's, 8-byte aligned. Its contents are what the last owner left, zero at first.
 */
static ADS_INLINE int ads_pool_alloc(struct ads_arena *a, struct ads_ref ref, __u32 *object)
{
	int rc = ads_may_change(a, ref.offset);
	__u32 entry = 0;

	if (rc)
		return rc;
	rc = ads_pool_take(a, ads_pool_of(ref), 0, &entry);
	if (rc)
		return ads_count(a, ref.offset, rc);
	{
		__u64 __arena *link = &ads_at(a, struct ads_entry, entry)->link;

		/* Unmarked: in use. Until this store a death leaks the object; afterwards it is its
		 * owner's, whom nobody can know to be dead. Nothing to order: taking it was a CAS. */
		ads_store(link, ads_link_change(ads_load(link), 0));
		ads_hand_clear(a);
	}
	*object = entry + ads_entry_value_offset(ref);
	return ADS_OK;
}

/* Give an object back. ADS_INVALID: it is free already, or outside of what is populated. */
static ADS_INLINE int ads_pool_free(struct ads_arena *a, struct ads_ref ref, __u32 object)
{
	__u32 entry = object - ads_entry_value_offset(ref);
	int rc = ads_may_change(a, ref.offset);
	__u64 __arena *link;
	__u64 word;

	if (rc)
		return rc;
	if (object < ADS_HEAP_OFFSET || object & 7 || ads_bad(a, entry, ads_entry_stride(ref)) ||
	    (__u64)entry + ads_entry_stride(ref) > ads_load(&ads_root_of(a)->populated))
		return ADS_INVALID;
	link = &ads_at(a, struct ads_entry, entry)->link;
	word = ads_load(link);
	/* One CAS decides who frees it, so that a double free is an error and not a loop. */
	if (word & ADS_LINK_MARK || !word)
		return ADS_INVALID;
	ads_hand_delete(a, ads_pool_of(ref).offset, entry, ads_link_later(word));
	/* R3. */
	if (ads_cas(link, word, ads_link_set_state(word, ads_by_user() ? ADS_LINK_TAKEN : 0)) != word) {
		ads_hand_clear(a);
		return ADS_INVALID;
	}
	ads_pool_retire(a, ads_pool_of(ref), ref.flags, entry);
	return ADS_OK;
}

#endif /* ARENADS_ALLOC_H */
