/* SPDX-License-Identifier: MIT */
/*
 * layout.h - the ABI: every struct that lives in an arena, and the link word.
 *
 * Offsets and sizes here are what other processes, other builds and other versions
 * read; a change of any of them is a new ADS_ABI_VERSION.
 *
 *	offset 0      padding: nobody's, so that NULL stays NULL on both sides
 *	offset 64     struct ads_root
 *	offset 1008   a word that stays 0 (ads_unknown_zero)
 *	offset 1016   first block header; the heap runs from here to the populated mark
 *	   ...        blocks (alloc.h), one after the other, each with an 8-byte header
 *	cursor        end of the last block
 *	populated     pages exist below; BPF stores above would vanish
 *	size          end of the mapping
 */
#ifndef ARENADS_LAYOUT_H
#define ARENADS_LAYOUT_H

#include "arena.h"
#include "atomic.h"

#define ADS_ABI_VERSION 4u
#define ADS_MAGIC 0x53444e4552410a89ull /* "\x89\nARENDS" on a little endian machine */
#define ADS_BYTE_ORDER 0x01020304u
#define ADS_ROOT_OFFSET 64u
#define ADS_HEAP_OFFSET 1016u /* first block header; its payload starts on a line */
#define ADS_NAME_SIZE 64u      /* a structure's name, NUL-terminated */
#define ADS_MAX_KEY 512u
#define ADS_MAX_VALUE 65536u
/* Kinds of blocks, in the low bits of a block's header word; see alloc.h. */
#define ADS_BLOCK_RAW 1u
#define ADS_BLOCK_CHUNK 2u
#define ADS_BLOCK_TABLE 3u
#define ADS_SHARDS 16u /* free lists of a pool; CPUs beyond share them */
#define ADS_SHARD_SPARES ADS_SHARDS /* entries kept for replacing while the pool is full */
#define ADS_SHARD_RETIRED (ADS_SHARDS + 1) /* two: entries that wait for a grace period */
#define ADS_ALL_SHARDS (ADS_SHARDS + 3)

enum ads_kind {
	ADS_KIND_HASHMAP = 1,
	ADS_KIND_LIST = 2,
	ADS_KIND_QUEUE = 3,
	ADS_KIND_POOL = 4,
	ADS_KIND_SET = 5,
	ADS_KIND_ORDEREDMAP = 6,
	ADS_KIND_ARRAY = 7,
	ADS_KIND_RING = 8,
	ADS_KIND_MPMC = 9,
	ADS_KIND_INTRUSIVE = 10,
	ADS_KIND_INDEX = 11, /* the towers of an ordered map: inside it, without a name */
};

/* What a structure was made with, beyond sizes. Part of its identity: both sides must agree. */
enum ads_structure_flags {
	ADS_GRACE = 1,	   /* hash map, set, ordered map: entries are reused after a grace period */
	ADS_OVERWRITE = 2, /* ring: when it is full the oldest records make room */
	ADS_SIGNED = 4,	   /* ordered map: keys are signed integers */
	ADS_BYTES = 8,	   /* ordered map: keys are byte strings; else they are integers */
	ADS_LIVES = 16,	   /* ordered map, always: entries count their lives, in a word before the value */
	ADS_FLAGS_ALL = 31,
};

/* --- the link word -------------------------------------------------------------- */
/*
 *	 63  62            32 31             3  2 1 0
 *	+----+---------------+----------------+------+
 *	|mark|   version     |     offset     |  tag |	tag 1: not an entry
 *	+----+---------------+----------------+------+
 *
 * offset   what comes next. Entries are 8-byte aligned, so the low bits are free:
 *          tag 1 says "a shortcut's link word, or with offset 0 the end", so a walk
 *          sees the end of its bucket without reading another line. Tag 2, in the word
 *          of a shortcut, says that the shortcut may not be linked yet.
 * version  grows with every change of this word and never restarts, also when the
 *          entry is freed and used again: an equal word means that nothing happened.
 * mark     the entry that holds this word is deleted; the word never changes again
 *          before the entry is used anew.
 */
#define ADS_LINK_MARK (1ull << 63)
#define ADS_LINK_TAG 1u
#define ADS_LINK_END ADS_LINK_TAG /* tag with offset 0 */
#define ADS_LINK_PENDING 2u

/* The low half of the link of an entry that is in no list; the mark is set. */
#define ADS_LINK_FREE 2u    /* in a stack of its pool; the moment before and after it too in BPF */
#define ADS_LINK_TAKEN 4u   /* in the hand of a thread */
#define ADS_LINK_PUSHING 6u /* in the hand of a thread, or in the stack already */
#define ADS_LINK_USER 4u    /* with the mark of a deleted entry: user space has deleted it */

/* With the offset in a shard's word. */
#define ADS_TOP_USER 1u	    /* pushed by user space: the entry's link may still say PUSHING */
#define ADS_TOP_TAKEN 2u    /* taken by user space, still to be removed */
#define ADS_TOP_FLAGS 31u

static ADS_INLINE __u32 ads_link_next(__u64 link)
{
	return (__u32)link;
}

/* What comes after a deleted entry. */
static ADS_INLINE __u32 ads_deleted_next(__u64 link)
{
	return (__u32)link & ~ADS_LINK_USER;
}

static ADS_INLINE __u32 ads_link_version(__u64 link)
{
	return (__u32)(link >> 32) & 0x7fffffff;
}

/* The version after that of `link`. */
static ADS_INLINE __u32 ads_link_later(__u64 link)
{
	return ((__u32)(link >> 32) + 1) & 0x7fffffff;
}

/* The word that replaces `link` of an entry in no list: marked, version one higher. */
static ADS_INLINE __u64 ads_link_set_state(__u64 link, __u32 state)
{
	return ADS_LINK_MARK | (__u64)ads_link_later(link) << 32 | state;
}

/* The word that replaces `link` and leads to `next`: unmarked, version one higher. */
static ADS_INLINE __u64 ads_link_change(__u64 link, __u32 next)
{
	return (((link >> 32) + 1) << 33 >> 1) | next;
}

/* --- objects ----------------------------------------------------------------------- */

/*
 * Root, at offset 64. One line a purpose, so that the cursor, which every allocation
 * writes, does not disturb readers of the rest.
 *
 *	 64  magic abi byte_order size base creation_id directory flags pad	constant
 *	128  cursor								alloc.h
 *	192  populated								user space raises
 *	256  counters: no_memory, damaged
 */
struct ads_root {
	__u64 magic;
	__u32 abi_version;
	__u32 byte_order;
	__u64 size;        /* bytes of the whole arena */
	__u64 base;        /* user address of offset 0 */
	__u64 creation_id; /* random: tells an arena from its successor at the same pin */
	__u64 directory;   /* offset of the list of named structures; 0 until it exists */
	__u64 flags;
	__u64 owners; /* {offset:32, lines:32} of the registry of writing threads, see owner.h */
	__u64 cursor; /* offset of the next block header; a hint that anyone helps forward */
	__u64 pad1[7];
	__u64 populated; /* bytes from 0 that have pages */
	__u64 pad2[7];
	__u64 no_memory; /* allocations that found nothing populated */
	__u64 damaged;   /* operations that met impossible memory */
	__u64 strays;    /* threads that wrote without a line in the registry */
	__u64 reaper;    /* the thread that gives dead threads' entries back, as in its line, 0: none */
	__u64 pad3[4];
};

ADS_STATIC_ASSERT(sizeof(struct ads_root) == 256, "root is four cache lines");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, size) == 16, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, base) == 24, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, creation_id) == 32, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, directory) == 40, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, flags) == 48, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, cursor) == 64, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, populated) == 128, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, no_memory) == 192, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, damaged) == 200, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, owners) == 56, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, strays) == 208, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_root, reaper) == 216, "ABI");
ADS_STATIC_ASSERT(ADS_ROOT_OFFSET + sizeof(struct ads_root) <= ADS_HEAP_OFFSET, "root before heap");
ADS_STATIC_ASSERT((ADS_HEAP_OFFSET + 8) % ADS_LINE == 0, "payloads start on a line");

/* A line of the registry of writing threads: owner.h says what is in it. */
struct ads_owner {
	__u64 who;
	__u64 where;
	__u64 pool;
	__u64 hand[2];
	__u64 pad[3];
};

ADS_STATIC_ASSERT(sizeof(struct ads_owner) == 64, "a line");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_owner, hand) == 24, "ABI");

#define ADS_OWNERS_MOST 512u

/*
 * A pool's shard: one line, so that two CPUs do not meet. Entries start at multiples of 32, chunks
 * at multiples of 64, so the low bits of an offset are free for what owner.h needs:
 * free   stack of free entries {offset:32 with ADS_TOP_USER or ADS_TOP_TAKEN, version:32}
 * chunk  what has never been used {offset:32 with ADS_TOP_TAKEN, taken:16, count:16}
 * spare  an entry for BPF programs that replace {offset:32, 0 while one has it, version:32}
 * enough `free` of the spare shard as it was when there were as many as there should be; a hint
 */
struct ads_shard {
	__u64 free;
	__u64 chunk;
	__u64 spare;
	__u64 enough;
	__u64 pad[4];
};

/*
 * A pool: entries of one size that never become anything else.
 * carved  {offset of the newest chunk:32, entries in all chunks:32}
 */
struct ads_pool {
	__u32 stride;   /* bytes from one entry to the next, a multiple of 32 */
	__u32 capacity; /* entries that may be carved: those that may be live, and all spares */
	__u32 spares;   /* entries that a shard of its own holds back, for replacing in a full pool */
	__u32 grace;    /* 1: an entry is used again only after a grace period, see reclaim.h */
	__u32 own_spares; /* shards that have one spare entry more for themselves: the first ones */
	__u32 pad0[11];
	__u64 carved;
	__u64 epoch;    /* grace: entries retire to shard ADS_SHARD_RETIRED + (epoch & 1) */
	__u64 pad1[6];
	struct ads_shard shards[ADS_ALL_SHARDS];
};

ADS_STATIC_ASSERT(sizeof(struct ads_shard) == 64, "a shard is one line");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_shard, free) == 0, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_shard, chunk) == 8, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_shard, spare) == 16, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_shard, enough) == 24, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_pool, capacity) == 4, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_pool, carved) == 64, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_pool, shards) == 128, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_pool, spares) == 8, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_pool, grace) == 12, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_pool, own_spares) == 16, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_pool, epoch) == 72, "ABI");
ADS_STATIC_ASSERT(sizeof(struct ads_pool) == 128 + 64 * ADS_ALL_SHARDS, "ABI");

/* What went wrong, per structure (rule: nothing is lost in silence). */
struct ads_counters {
	__u64 full;      /* refused: max_entries in use, or the queue was full */
	__u64 no_memory; /* refused: the arena had nothing populated */
	__u64 budget;    /* given up: the loop budget ran out */
	__u64 damaged;   /* given up: impossible memory */
	__u64 dropped;   /* records that were overwritten before anybody took them */
	__u64 pad[3];
};

ADS_STATIC_ASSERT(sizeof(struct ads_counters) == 64, "counters are one line");

/* The first line of every structure, constant after creation but for `table` and `removed`. */
struct ads_header {
	__u32 kind; /* enum ads_kind */
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u64 seed;     /* hash map: random, so that keys from outside cannot be chosen to collide */
	__u64 table;    /* hash map, ordered map: {offset of the newest table of shortcuts, or of hints:32,
			 * shift:32}, the one word here that changes. lists, pool: offset of its head link. queue: of its slots.
			 * array: of its first chunk word */
	__u32 first;    /* hash map: offset of the first shortcut of all, where iteration starts.
			 * array: bytes of a block with a chunk. intrusive list: offset of its pool */
	__u32 most;     /* hash map, ordered map: log2 of the most words its table may grow to. array: chunks.
			 * MPMC ring: log2 of its slots. intrusive list: offset of the node in a record */
	__u32 flags;    /* enum ads_structure_flags */
	__u32 pad0;
	__u64 removed;  /* 1: the structure has no name any more, nobody may change it */
	__u64 pad1;
};

/*
 * A table of shortcuts, or of hints: a line that tells the one before it, and the words.
 *
 *	 0          64
 *	+----------+------+------+------+---
 *	| previous | link | link | link |		2^(64 - shift) of them
 *	+----------+------+------+------+---
 */
struct ads_table {
	__u64 previous; /* {offset:32, shift:32} of the table half as large, 0 in the first */
	__u64 pad[7];
};

ADS_STATIC_ASSERT(sizeof(struct ads_table) == 64, "links start on a line");

ADS_STATIC_ASSERT(sizeof(struct ads_header) == 64, "the header is one line");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, kind) == 0, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, key_size) == 4, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, value_size) == 8, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, max_entries) == 12, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, seed) == 16, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, table) == 24, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, first) == 32, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, most) == 36, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, flags) == 40, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_header, removed) == 48, "ABI");

/* A hash map, a list or a pool of objects: header, counters, the list's head link, pool. */
struct ads_collection {
	struct ads_header header;
	struct ads_counters counters;
	__u64 head; /* list: link to the first entry, on a line of its own */
	__u64 pad[7];
	struct ads_pool pool;
};

ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_collection, counters) == 64, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_collection, head) == 128, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_collection, pool) == 192, "ABI");
ADS_STATIC_ASSERT(sizeof(struct ads_collection) == 192 + sizeof(struct ads_pool), "ABI");

/*
 * An entry of a list or hash map; key and value follow, each rounded up to 8 bytes. An object
 * of a pool is the value of an entry without key, whose link is marked while it is free.
 *
 *	 0      8      16          16 + key            stride
 *	+------+------+-----------+-------------------+
 *	| link | hash | key ...   | value ...         |
 *	+------+------+-----------+-------------------+
 *
 * While the entry is free, `hash` holds {next free:32, entries below:32} and the
 * link stays marked, so that a late reader sees a deleted entry, never a foreign one.
 */
struct ads_entry {
	__u64 link;
	__u64 hash; /* hash map: the key's hash. list: the order */
};

ADS_STATIC_ASSERT(sizeof(struct ads_entry) == 16, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_entry, link) == 0, "an entry's link is its first word");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_entry, hash) == 8, "ABI");

/*
 * An ordered map: two collections, entries and towers, and the heads of the towers' levels. The first
 * table of hints follows.
 *
 *	0         data       1536       index      3072      3136
 *	+----------------------+----------------------+---------+
 *	| header, head, pool   | header, -, pool      | heads[] |
 *	+----------------------+----------------------+---------+
 *
 * An entry of the towers has the order and the key of an entry one level below, and as its value
 * {offset of that entry:32, its life + 1:32}.
 */
#define ADS_LEVELS 7u
struct ads_orderedmap {
	struct ads_collection data;
	struct ads_collection index;
	__u64 heads[ADS_LEVELS + 1]; /* of level 1 to 7; the first is not used */
};

ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_orderedmap, index) == 1536, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_orderedmap, heads) == 3072, "ABI");

/*
 * A ring of records of any size (ring.h); its bytes follow. Positions are free-running 64-bit
 * counts of bytes. Words that are written by one side and waited for by the other stand on
 * pairs of lines of their own.
 */
struct ads_ring {
	struct ads_header header; /* max_entries: bytes */
	struct ads_counters counters;
	__u64 committed; /* producer: end of the last whole record */
	__u64 head_seen; /* producer: the head it read last */
	__u64 producer;	 /* of many (rings.h): who is it now, 0: nobody. Else always 0 */
	__u64 pad0[13];
	__u64 tail; /* producer: published */
	__u64 pad1[15];
	__u64 head;	 /* consumer: taken. Overwriting: {position, drops modulo 8:3} */
	__u64 tail_seen; /* consumer: the tail it read last */
	__u64 pad2[14];
};

ADS_STATIC_ASSERT(sizeof(struct ads_ring) == 512, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_ring, committed) == 128, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_ring, head_seen) == 136, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_ring, producer) == 144, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_ring, tail) == 256, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_ring, head) == 384, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_ring, tail_seen) == 392, "ABI");

#define ADS_RING_BY_PROGRAM 1ull /* in `producer`: a BPF program. Else the `who` of a thread's line, without its state */

/*
 * The place of a record in one intrusive list at a time, embedded in the record, 8-byte aligned. It
 * begins as an entry does. Zeroed memory is a node in no list. See intrusive.h.
 */
struct ads_node {
	__u64 link;
	__u64 order;
	__u64 list; /* offset of the list that it is in, or was in last */
};

ADS_STATIC_ASSERT(sizeof(struct ads_node) == 24, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_node, link) == 0, "a node begins as an entry does");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_node, order) == 8, "a node begins as an entry does");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_node, list) == 16, "ABI");

/* An intrusive list: what a list has, without a pool of its own. */
struct ads_intrusive {
	struct ads_header header;
	struct ads_counters counters;
	__u64 head; /* link to the first node */
	__u64 pad[7];
};

ADS_STATIC_ASSERT(sizeof(struct ads_intrusive) == 192, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_intrusive, head) == 128, "the head is where a list has it");

/*
 * An SPSC ring of fixed-size records. Producer and consumer each write one line.
 * Positions are free-running 64-bit counts of records.
 */
struct ads_queue {
	struct ads_header header;
	struct ads_counters counters;
	__u64 tail;        /* producer: records published */
	__u64 head_seen;   /* producer: the head it read last */
	__u64 pad0[6];
	__u64 head;        /* consumer: records taken */
	__u64 tail_seen;   /* consumer: the tail it read last */
	__u64 pad1[6];
};

ADS_STATIC_ASSERT(sizeof(struct ads_queue) == 256, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_queue, tail) == 128, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_queue, head) == 192, "ABI");

/*
 * An array of elements in chunks, which come into being as they are touched. Behind it stands
 * one word for each chunk: the offset of the chunk's first element, 0 until it exists.
 *
 *	 0          64         128
 *	+----------+----------+---------+---------+---
 *	| header   | counters | chunk 0 | chunk 1 |
 *	+----------+----------+---------+---------+---
 */
struct ads_array {
	struct ads_header header;
	struct ads_counters counters;
};

ADS_STATIC_ASSERT(sizeof(struct ads_array) == 128, "chunk words start on a line");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_array, counters) == 64, "ABI");

/*
 * An MPMC ring, see mpmc.h: a collection, whose pool has the entries that records are in; two
 * positions, 64-bit counts of records that are at most a little behind; the slots, 2^header.most
 * words {entry:32 with the flags of mpmc.h, lap:32}. Two lines a position: processors fetch the neighbour of a line too.
 */
struct ads_mpmc {
	struct ads_collection collection;
	__u64 tail; /* records pushed */
	__u64 pad0[15];
	__u64 head; /* records popped */
	__u64 pad1[15];
};

ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_mpmc, tail) == sizeof(struct ads_collection), "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_mpmc, head) == sizeof(struct ads_collection) + 128, "ABI");
ADS_STATIC_ASSERT(sizeof(struct ads_mpmc) == sizeof(struct ads_collection) + 256, "slots start on a line");

/*
 * The directory is a list (list.h) whose key is a name and whose value is this:
 * where a structure is, and where the description of its records is.
 */
struct ads_directory_value {
	__u32 kind;
	__u32 offset;        /* of the structure */
	__u32 schema_offset; /* of its schema: JSON text, as `arenads schema` prints it */
	__u32 schema_size;   /* 0: its records are not described */
};

ADS_STATIC_ASSERT(sizeof(struct ads_directory_value) == 16, "ABI");
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_directory_value, schema_size) == 12, "ABI");

/* --- shapes ------------------------------------------------------------------------- */

/* What an operation must know of a structure. BPF programs have it from their types
 * at compile time; user space checks it once when it opens the structure. */
struct ads_ref {
	__u32 offset; /* of the structure */
	__u32 key_size;
	__u32 value_size;
	__u32 flags; /* enum ads_structure_flags */
};

static ADS_INLINE __u32 ads_round_up(__u32 value, __u32 to)
{
	return (value + to - 1) & ~(to - 1);
}

static ADS_INLINE __u32 ads_entry_value_offset(struct ads_ref ref)
{
	return 16 + ads_round_up(ref.key_size, 8) + (ref.flags & ADS_LIVES ? 8 : 0);
}

/* 32-byte steps: an entry's link, hash and 8-byte key never straddle a line. */
static ADS_INLINE __u32 ads_entry_stride(struct ads_ref ref)
{
	return ads_round_up(ads_entry_value_offset(ref) + ads_round_up(ref.value_size, 8), 32);
}

/* Whether a kind is entries in a list with tables of shortcuts into it. */
static ADS_INLINE int ads_kind_is_hashed(__u32 kind)
{
	return kind == ADS_KIND_HASHMAP || kind == ADS_KIND_SET;
}

/* Whether a kind has a table that grows, of shortcuts or of hints. */
static ADS_INLINE int ads_kind_has_table(__u32 kind)
{
	return ads_kind_is_hashed(kind) || kind == ADS_KIND_ORDEREDMAP;
}

/* Whether the structure at an offset may be changed: ADS_OK, ADS_READ_ONLY or ADS_REMOVED. */
static ADS_INLINE int ads_may_change(struct ads_arena *a, __u32 structure)
{
	if (!ads_writable(a))
		return ADS_READ_ONLY;
	return ADS_UNLIKELY(ads_load(&ads_at(a, struct ads_header, structure)->removed)) ? ADS_REMOVED : ADS_OK;
}

/* An array's chunk holds 2^shift elements, as many as fit in 16 KiB, and at least one. A test
 * build may have smaller chunks, to meet more of them; they are part of the ABI. */
#ifndef ADS_ARRAY_CHUNK_BITS
#define ADS_ARRAY_CHUNK_BITS 14u
#endif

/* Bytes from one element to the next. */
static ADS_INLINE __u32 ads_array_stride(__u32 value_size)
{
	return ads_round_up(value_size, 8);
}

/* log2 of the elements of a chunk. */
static ADS_INLINE __u32 ads_array_shift(__u32 value_size)
{
	__u32 bits = 32 - (__u32)__builtin_clz(ads_array_stride(value_size) - 1); /* stride <= 2^bits */

	return bits < ADS_ARRAY_CHUNK_BITS ? ADS_ARRAY_CHUNK_BITS - bits : 0;
}

/* Chunks of an array of `entries` elements. */
static ADS_INLINE __u64 ads_array_chunks(__u32 value_size, __u64 entries)
{
	__u32 shift = ads_array_shift(value_size);

	return (entries + (1ull << shift) - 1) >> shift;
}

/* Bytes of a block with a chunk, its header word included. */
static ADS_INLINE __u32 ads_array_chunk_bytes(__u32 value_size)
{
	return ads_round_up(8 + (ads_array_stride(value_size) << ads_array_shift(value_size)), ADS_LINE);
}

/* Offset of the word of chunk `number`, of the array at `array`. */
static ADS_INLINE __u32 ads_array_word(__u32 array, __u32 number)
{
	return array + (__u32)sizeof(struct ads_array) + 8 * number;
}

#define ads_root_of(arena) ads_at(arena, struct ads_root, ADS_ROOT_OFFSET)
#define ads_collection_of(arena, ref) ads_at(arena, struct ads_collection, (ref).offset)

#if !ADS_BPF
/* Whether `end` is below the populated mark, looking at the mark again. The mark is
 * shared memory: it counts only as far as the mapping goes. */
static inline int ads_arena_reaches(struct ads_arena *a, __u64 end)
{
	__u64 populated = ads_load_acquire(&ads_root_of(a)->populated); /* A9, pairs with R9 */

	if (populated > a->size)
		return 0;
	if (populated > __atomic_load_n(&a->limit, __ATOMIC_RELAXED))
		__atomic_store_n(&a->limit, populated, __ATOMIC_RELAXED);
	return end <= populated;
}

/* True if `bytes` bytes at `offset` must not be followed: out of the populated range or
 * unaligned. Remembers the place for the error message. */
static ADS_INLINE int ads_bad(struct ads_arena *a, __u32 offset, __u64 bytes)
{
	if (ADS_LIKELY(!(offset & 7) && offset >= ADS_LINE &&
		       offset + bytes <= __atomic_load_n(&a->limit, __ATOMIC_RELAXED)))
		return 0;
	if (!(offset & 7) && offset >= ADS_LINE && ads_arena_reaches(a, offset + bytes))
		return 0;
	a->damaged_at = offset;
	return 1;
}
#endif

/* Count a failure where anyone can see it; returns the code, for `return ads_fail(...)`. */
static ADS_INLINE int ads_count(struct ads_arena *a, __u32 structure, int code)
{
	struct ads_collection __arena *c;

	if (!ads_writable(a))
		return code;
	if (code == ADS_DAMAGED)
		ads_add(&ads_root_of(a)->damaged, 1);
	if (ads_bad(a, structure, 128))
		return code;
	c = ads_at(a, struct ads_collection, structure);
	if (code == ADS_FULL)
		ads_add(&c->counters.full, 1);
	else if (code == ADS_NO_MEMORY)
		ads_add(&c->counters.no_memory, 1);
	else if (code == ADS_BUDGET)
		ads_add(&c->counters.budget, 1);
	else if (code == ADS_DAMAGED)
		ads_add(&c->counters.damaged, 1);
	return code;
}

#endif /* ARENADS_LAYOUT_H */
