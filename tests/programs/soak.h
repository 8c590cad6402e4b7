/* SPDX-License-Identifier: MIT */
/*
 * soak.h - the operations of the soak, written once: soak.bpf.c does them in the kernel while the
 * victims of soak.c, which do the same, are killed.
 *
 * Every record carries a check of its words and its key, so that whoever reads one knows whether
 * somebody stored it so. An operation returns an enum soak_code: what the structure said, or
 * that a value is none that was stored.
 */
#ifndef SOAK_H
#define SOAK_H

#include <arenads/bpf.h>

#define SOAK_COUNTERS 16
#define SOAK_LIST_KEYS 32
#define SOAK_FIRST_ORDER (ADS_LIST_FIRST_ORDER + 1) /* a push onto an empty list goes below */
#define SOAK_PUSHED (~0ull) /* the key in a pushed record, whose order is known only afterwards */
#define SOAK_RARE 256 /* bits of a random number from here on tell what is done seldom */
#define SOAK_WALK 16 /* entries that one walk looks at */
#define SOAK_CELLS (1u << 18) /* of the array, in 512 chunks */
#define SOAK_STORED 512u /* the last of them are stored whole, the others count */
#define SOAK_CHURN 0 /* who sends to the rings of many: the syscall program, the victim in each seat, */
#define SOAK_NESTED 15 /* or one of those that come in between, of which there are several at a time */
#define SOAK_PRODUCERS 16
#define SOAK_MORE 4 /* words that a record of a byte ring may have more */

struct record {
	__u64 key;
	__u64 stamp;
	__u64 check;
	__u64 again; /* check, inverted */
};

/* A record of the intrusive list. */
struct item {
	struct record record;
	struct ads_node node;
};

/* Of a counting one the first word counts. In a stored one each word has a check of its own, in the
 * upper half: it is words that are whole. */
struct cell {
	__u64 words[4];
};

struct long_record {
	struct record record;
	__u64 more[SOAK_MORE];
};

ADS_ARENA(64 * ADS_MIB);
ADS_HASHMAP(map, __u64, struct record, 8192);
ADS_HASHMAP(counts, __u64, __u64, 4096);
ADS_HASHMAP(grace, __u64, struct record, 16384, ADS_GRACE);
ADS_SET(set, __u64, 4096);
ADS_LIST(list, struct record, 4096);
ADS_POOL(pool, struct record, 8192);
ADS_QUEUE(queue_out, struct record, 256);
ADS_QUEUE(queue_in, struct record, 256);
ADS_ORDEREDMAP(ordered, __u64, struct record, 8192);
ADS_MPMC(mpmc, struct record, 256);
ADS_RING(ring_out, 8192);
ADS_RING(ring_in, 8192);
ADS_RING(recorder_out, 4096, ADS_OVERWRITE);
ADS_RING(recorder_in, 4096, ADS_OVERWRITE);
ADS_RINGS(many, 8192);
ADS_ARRAY(array, struct cell, SOAK_CELLS);
ADS_POOL(items, struct item, 32768);
ADS_INTRUSIVE(linked, items, struct item, node);

#define SOAK_STRUCTURES(X)                                                     \
	X(map, ADS_KIND_HASHMAP)                                               \
	X(counts, ADS_KIND_HASHMAP)                                            \
	X(grace, ADS_KIND_HASHMAP)                                             \
	X(set, ADS_KIND_SET)                                                   \
	X(list, ADS_KIND_LIST)                                                 \
	X(pool, ADS_KIND_POOL)                                                 \
	X(queue_out, ADS_KIND_QUEUE)                                           \
	X(queue_in, ADS_KIND_QUEUE)                                            \
	X(ordered, ADS_KIND_ORDEREDMAP)                                        \
	X(mpmc, ADS_KIND_MPMC)                                                 \
	X(ring_out, ADS_KIND_RING)                                             \
	X(ring_in, ADS_KIND_RING)                                              \
	X(recorder_out, ADS_KIND_RING)                                         \
	X(recorder_in, ADS_KIND_RING)                                          \
	X(array, ADS_KIND_ARRAY)                                               \
	X(items, ADS_KIND_POOL)                                                \
	X(linked, ADS_KIND_INTRUSIVE)

enum soak_code {
	SOAK_OK,
	SOAK_ABSENT,
	SOAK_EXISTS,
	SOAK_FULL,
	SOAK_NO_MEMORY,
	SOAK_BUDGET,
	SOAK_DAMAGED,
	SOAK_OTHER,
	SOAK_WRONG, /* a value that nobody stored there */
	SOAK_AGAIN, /* queues, rings: the record before once more, its producer died in between */
	SOAK_LOST,  /* queues, rings: records are missing, their consumers died with them */
	SOAK_CODES,
};

/* In this order in every report. */
#define SOAK_OPERATIONS(X)                                                     \
	X(map_insert)                                                          \
	X(map_replace)                                                         \
	X(map_update)                                                          \
	X(map_delete)                                                          \
	X(map_pop)                                                             \
	X(map_get)                                                             \
	X(map_walk)                                                            \
	X(counts_add)                                                          \
	X(grace_update)                                                        \
	X(grace_delete)                                                        \
	X(grace_get)                                                           \
	X(grace_hold)                                                          \
	X(grace_reclaim)                                                       \
	X(set_insert)                                                          \
	X(set_delete)                                                          \
	X(set_contains)                                                        \
	X(set_walk)                                                            \
	X(list_insert)                                                         \
	X(list_replace)                                                        \
	X(list_delete)                                                         \
	X(list_get)                                                            \
	X(list_push)                                                           \
	X(list_drain)                                                          \
	X(list_walk)                                                           \
	X(pool_use)                                                            \
	X(queue_push)                                                          \
	X(queue_pop)                                                           \
	X(ordered_insert)                                                      \
	X(ordered_replace)                                                     \
	X(ordered_update)                                                      \
	X(ordered_delete)                                                      \
	X(ordered_pop)                                                         \
	X(ordered_pop_first)                                                   \
	X(ordered_get)                                                         \
	X(ordered_lower_bound)                                                 \
	X(ordered_walk)                                                        \
	X(mpmc_push)                                                           \
	X(mpmc_pop)                                                            \
	X(ring_push)                                                           \
	X(ring_pop)                                                            \
	X(recorder_push)                                                       \
	X(recorder_pop)                                                        \
	X(array_add)                                                           \
	X(array_touch)                                                         \
	X(array_set)                                                           \
	X(array_get)                                                           \
	X(linked_insert)                                                       \
	X(linked_push)                                                         \
	X(linked_remove)                                                       \
	X(linked_drain)                                                        \
	X(linked_move)                                                         \
	X(linked_contains)                                                     \
	X(linked_walk)                                                         \
	X(many_push)                                                           \
	X(many_reserve)                                                        \
	X(many_pop)                                                            \
	X(wide_insert)                                                         \
	X(wide_update)                                                         \
	X(wide_delete)                                                         \
	X(wide_get)

enum soak_operation {
#define SOAK_NUMBER(name) SOAK_##name,
	SOAK_OPERATIONS(SOAK_NUMBER)
#undef SOAK_NUMBER
	SOAK_KINDS, /* how many */
};

/* Those that one process at a time may do: each end of an SPSC queue or ring has one owner. */
#define SOAK_EXCLUSIVE                                                         \
	(1ull << SOAK_queue_push | 1ull << SOAK_queue_pop | 1ull << SOAK_ring_push | 1ull << SOAK_ring_pop | \
	 1ull << SOAK_recorder_push | 1ull << SOAK_recorder_pop | 1ull << SOAK_many_pop)
/* Only programs that are not sleepable may hold on to an entry. */
#define SOAK_NOT_SLEEPABLE (1ull << SOAK_grace_hold)

/*
 * What this side has sent on the one ring of a pair, and what it expects on the other. For the
 * victims in memory that survives them.
 */
struct soak_ends {
	__u64 sent;
	__u64 expected;
	__u64 doubt; /* records that dead consumers may have taken with them */
};

enum soak_pair {
	SOAK_QUEUES,
	SOAK_RINGS,
	SOAK_RECORDERS,
	SOAK_PAIRS,
};

#if ADS_BPF
/* What the syscall program has sent to the rings of many; and of each sender what it has had last, and one. */
struct soak_many {
	__u64 sent;
	__u64 next[ADS_RINGS_MOST * SOAK_PRODUCERS];
};
struct soak_many soak_many;
__u64 soak_wide; /* offset of the map that is made anew */
struct soak_ends soak_ends[SOAK_PAIRS]; /* not static: a compiler may take that to pieces */
#define SOAK_SIDE(bpf, user) bpf
#define soak_hold(object) ((void)0)
#else
static __u64 soak_wide;
static __u64 *soak_sent_to_many; /* by whoever has the seat */
static __u64 soak_producer;
static struct soak_ends *soak_ends;
#define SOAK_SIDE(bpf, user) user
static void soak_hold(__u32 object);
#endif

/* The next of a sequence of random numbers (Knuth's MMIX constants); its high bits are used. */
static ADS_INLINE __u64 soak_random(__u64 state)
{
	return state * 6364136223846793005ull + 1442695040888963407ull;
}

static ADS_INLINE __u64 soak_check(__u64 key, __u64 stamp)
{
	__u64 word = (key ^ 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;

	word = (word ^ word >> 29 ^ stamp) * 0x94d049bb133111ebull;
	return word ^ word >> 32;
}

static ADS_INLINE struct record soak_record(__u64 key, __u64 stamp)
{
	__u64 check = soak_check(key, stamp);
	struct record record = {key, stamp, check, ~check};

	return record;
}

/* What an operation that read a record says of it. */
static ADS_INLINE int soak_judge(int rc, const struct record *record, __u64 key)
{
	__u64 check;

	if (rc)
		return rc;
	check = soak_check(record->key, record->stamp);
	return record->key == key && record->check == check && record->again == ~check ? 0 : 1;
}

static ADS_INLINE void soak_write(struct record __arena *to, struct record record)
{
	ads_store(&to->key, record.key);
	ads_store(&to->stamp, record.stamp);
	ads_store(&to->check, record.check);
	ads_store(&to->again, record.again);
}

static ADS_INLINE struct record soak_read(const struct record __arena *from)
{
	struct record record = {ads_load(&from->key), ads_load(&from->stamp), ads_load(&from->check),
				ads_load(&from->again)};

	return record;
}

/* --- hash map ------------------------------------------------------------------------- */

ADS_GLOBAL int soak_map_insert(__u64 key, __u64 stamp)
{
	struct record record = soak_record(key, stamp);

	return map_insert(&key, &record);
}

ADS_GLOBAL int soak_map_replace(__u64 key, __u64 stamp)
{
	struct record record = soak_record(key, stamp);

	return map_replace(&key, &record);
}

ADS_GLOBAL int soak_map_update(__u64 key, __u64 stamp)
{
	struct record record = soak_record(key, stamp);

	return map_update(&key, &record);
}

ADS_GLOBAL int soak_map_delete(__u64 key, __u64 stamp)
{
	return map_delete(&key);
}

ADS_GLOBAL int soak_map_pop(__u64 key, __u64 stamp)
{
	struct record record = {0};
	int rc = map_pop(&key, &record);

	return soak_judge(rc, &record, key);
}

ADS_GLOBAL int soak_map_get(__u64 key, __u64 stamp)
{
	struct record record = {0};
	int rc = map_get(&key, &record);

	return soak_judge(rc, &record, key);
}

ADS_GLOBAL int soak_map_walk(__u64 key, __u64 stamp)
{
	struct map_cursor cursor = {0};
	struct record record = {0};
	__u32 i;
	int rc = 0;

	for (ads_each(i, SOAK_WALK)) {
		rc = map_next(&cursor, &record);
		if (!rc)
			rc = soak_judge(0, &record, cursor.key);
		if (rc)
			break;
	}
	return rc;
}

/* A counter is never deleted, so no addition may get lost. */
ADS_GLOBAL int soak_counts_add(__u64 key, __u64 stamp)
{
	__u64 counter = key % SOAK_COUNTERS, zero = 0;
	__u64 __arena *count = counts_lookup_or_insert(&counter, &zero);

	if (!count)
		return ADS_FULL;
	ads_add(count, 1);
	return 0;
}

/* --- hash map whose entries wait for a grace period ---------------------------------------- */

/* One in 16 changes it: what it lets go comes back only some 10 ms later. */
static ADS_INLINE int soak_is_rare(__u64 stamp, __u64 often)
{
	return !(stamp & (often - 1) * SOAK_RARE);
}

ADS_GLOBAL int soak_grace_get(__u64 key, __u64 stamp)
{
	struct record record = {0};
	int rc = grace_get(&key, &record);

	return soak_judge(rc, &record, key);
}

ADS_GLOBAL int soak_grace_update(__u64 key, __u64 stamp)
{
	struct record record = soak_record(key, stamp);

	return soak_is_rare(stamp, 16) ? grace_update(&key, &record) : soak_grace_get(key, stamp);
}

ADS_GLOBAL int soak_grace_delete(__u64 key, __u64 stamp)
{
	return soak_is_rare(stamp, 16) ? grace_delete(&key) : soak_grace_get(key, stamp);
}

/* An entry that was found stays what it is while this program runs, deleted or not. */
ADS_GLOBAL int soak_grace_hold(__u64 key, __u64 stamp)
{
	struct record __arena *held = grace_lookup(&key);
	struct record record;
	__u64 rounds = stamp >> 56;
	__u32 i;

	if (!held)
		return ADS_ABSENT;
	record.stamp = ads_load(&held->stamp);
	for (ads_each(i, rounds)) {
		record.key = ads_load(&held->key);
		record.check = ads_load(&held->check);
		record.again = ads_load(&held->again);
		if (soak_judge(0, &record, key))
			return 1;
	}
	return 0;
}

/* User space gives back what waits; so seldom because it takes a grace period. */
ADS_GLOBAL int soak_grace_reclaim(__u64 key, __u64 stamp)
{
#if !ADS_BPF
	if (soak_is_rare(stamp, 8192)) {
		__s64 given = ads_collection_reclaim(&arena, grace_ref());

		return given < 0 ? (int)given : 0;
	}
#endif
	return ADS_ABSENT;
}

/* --- set ------------------------------------------------------------------------------------ */

ADS_GLOBAL int soak_set_insert(__u64 key, __u64 stamp)
{
	return set_insert(&key);
}

ADS_GLOBAL int soak_set_delete(__u64 key, __u64 stamp)
{
	return set_delete(&key);
}

ADS_GLOBAL int soak_set_contains(__u64 key, __u64 stamp)
{
	int rc = set_contains(&key);

	return rc == 1 ? ADS_OK : rc ? rc : ADS_ABSENT;
}

ADS_GLOBAL int soak_set_walk(__u64 key, __u64 stamp)
{
	struct set_cursor cursor = {0};
	__u32 i;
	int rc = 0;

	for (ads_each(i, SOAK_WALK)) {
		rc = set_next(&cursor);
		if (!rc && cursor.key >> 32)
			rc = 1;
		if (rc)
			break;
	}
	return rc;
}

/* --- list ------------------------------------------------------------------------------- */

static ADS_INLINE __u64 soak_order(__u64 key)
{
	return SOAK_FIRST_ORDER + key % SOAK_LIST_KEYS;
}

/* A push goes before what is first, so it may get the order of a key. */
static ADS_INLINE int soak_judge_order(int rc, const struct record *record, __u64 order)
{
	return soak_judge(rc, record, record->key == SOAK_PUSHED ? SOAK_PUSHED : order);
}

ADS_GLOBAL int soak_list_insert(__u64 key, __u64 stamp)
{
	__u64 order = soak_order(key);
	struct record record = soak_record(order, stamp);

	return list_insert(order, &record);
}

ADS_GLOBAL int soak_list_replace(__u64 key, __u64 stamp)
{
	__u64 order = soak_order(key);
	struct record record = soak_record(order, stamp);

	return list_replace(order, &record);
}

ADS_GLOBAL int soak_list_delete(__u64 key, __u64 stamp)
{
	return list_delete(soak_order(key));
}

ADS_GLOBAL int soak_list_get(__u64 key, __u64 stamp)
{
	struct record record = {0};
	__u64 order = soak_order(key);
	int rc = list_get(order, &record);

	return soak_judge_order(rc, &record, order);
}

ADS_GLOBAL int soak_list_push(__u64 key, __u64 stamp)
{
	struct record record = soak_record(SOAK_PUSHED, stamp);
	__u64 order;

	return list_push(&record, &order);
}

/* Take up to two pushed entries away, so that they stay few whoever dies. */
ADS_GLOBAL int soak_list_drain(__u64 key, __u64 stamp)
{
	struct list_cursor cursor = {0};
	struct record record = {0};
	__u32 i;
	int rc = 0;

	for (ads_each(i, 2)) {
		rc = list_next(&cursor, &record);
		if (!rc)
			rc = soak_judge_order(0, &record, cursor.scan.hash);
		if (rc || record.key != SOAK_PUSHED)
			break;
		rc = list_delete(cursor.scan.hash);
		if (rc)
			break;
	}
	return rc;
}

ADS_GLOBAL int soak_list_walk(__u64 key, __u64 stamp)
{
	struct list_cursor cursor = {0};
	struct record record = {0};
	__u64 last = 0;
	__u32 i;
	int rc = 0;

	for (ads_each(i, SOAK_WALK)) {
		rc = list_next(&cursor, &record);
		if (rc)
			break;
		rc = soak_judge_order(0, &record, cursor.scan.hash);
		if (cursor.scan.hash <= last)
			rc = 1;
		if (rc)
			break;
		last = cursor.scan.hash;
	}
	return rc;
}

/* --- pool ----------------------------------------------------------------------------------- */

/* Take an object, write it, find it as it was written, give it back. */
ADS_GLOBAL int soak_pool_use(__u64 key, __u64 stamp)
{
	struct ads_arena *a = ads_here();
	struct record written = soak_record(key, stamp), found;
	struct record __arena *object;
	__u32 at = 0;
	int rc = ads_pool_alloc(a, pool_ref(), &at);

	if (rc)
		return rc;
	soak_hold(at);
	(void)a;
	object = ads_at(a, struct record, at);
	soak_write(object, written);
	found = soak_read(object);
	rc = soak_judge(0, &found, key);
	if (ads_pool_free(a, pool_ref(), at))
		rc = 1;
	soak_hold(0);
	return rc;
}

/* --- SPSC queues: this side sends on one and takes from the other ------------------------------ */

static ADS_INLINE int soak_sent(enum soak_pair pair, int rc)
{
	if (!rc)
		soak_ends[pair].sent++;
	return rc;
}

static ADS_INLINE int soak_arrived(enum soak_pair pair, int rc, const struct record *record)
{
	struct soak_ends *ends = &soak_ends[pair];
	__u64 expected = ends->expected;

	if (rc)
		return rc;
	if (soak_judge(0, record, record->key))
		return 1;
	if (record->key == expected - 1)
		return SOAK_AGAIN;
	if (record->key < expected || record->key - expected > ends->doubt)
		return 1;
	ends->expected = record->key + 1;
	ends->doubt = 0;
	return record->key == expected ? 0 : SOAK_LOST;
}

ADS_GLOBAL int soak_queue_push(__u64 key, __u64 stamp)
{
	struct record record = soak_record(soak_ends[SOAK_QUEUES].sent, stamp);

	return soak_sent(SOAK_QUEUES, SOAK_SIDE(queue_out_push, queue_in_push)(&record));
}

ADS_GLOBAL int soak_queue_pop(__u64 key, __u64 stamp)
{
	struct record record = {0};
	int rc = SOAK_SIDE(queue_in_pop, queue_out_pop)(&record);

	return soak_arrived(SOAK_QUEUES, rc, &record);
}

/* --- byte rings: the same with records of several sizes ---------------------------------------- */

/* The words that a record has more follow from its check. */
static ADS_INLINE int soak_judge_more(const struct long_record *record, __u32 size)
{
	__u32 more = (size - (__u32)sizeof(struct record)) / 8;
	__u32 i;

	if (size < sizeof(struct record) || size > sizeof(struct long_record) || size % 8)
		return 1;
	for (i = 0; i < SOAK_MORE; i++)
		if (i < more && record->more[i] != record->record.check + i)
			return 1;
	return 0;
}

/* Copy a record in, to be seen at once or with the next, or fill one in place. */
ADS_GLOBAL int soak_ring_push(__u64 key, __u64 stamp)
{
	struct record record = soak_record(soak_ends[SOAK_RINGS].sent, stamp);
	struct ads_ring_draft draft = {0};
	__u32 more = (__u32)(stamp >> 50) % (SOAK_MORE + 1);
	struct record __arena *place;
	__u64 __arena *words;
	__u32 i;
	int rc;

	if (stamp >> 62 == 0) {
		rc = SOAK_SIDE(ring_out_append, ring_in_append)(&record, sizeof(record));
	} else if (stamp >> 62 == 1) {
		rc = SOAK_SIDE(ring_out_push, ring_in_push)(&record, sizeof(record));
	} else {
		place = SOAK_SIDE(ring_out_reserve, ring_in_reserve)(&draft, sizeof(record) + 8 * more);
		if (!place)
			return ADS_FULL;
		soak_write(place, record);
		words = (__u64 __arena *)(place + 1);
		for (i = 0; i < SOAK_MORE; i++)
			if (i < more)
				ads_store(words + i, record.check + i);
		rc = SOAK_SIDE(ring_out_submit, ring_in_submit)(&draft);
	}
	return soak_sent(SOAK_RINGS, rc);
}

/* Copy a record out, or read it in place. */
ADS_GLOBAL int soak_ring_pop(__u64 key, __u64 stamp)
{
	struct long_record record = {0};
	struct ads_ring_cursor batch = {0};
	__u64 __arena *words;
	__u32 size = 0, i;
	int rc;

	if (stamp >> 63) {
		rc = SOAK_SIDE(ring_in_pop, ring_out_pop)(&record, sizeof(record), &size);
	} else {
		rc = SOAK_SIDE(ring_in_peek, ring_out_peek)(&batch);
		if (rc)
			return rc;
		words = SOAK_SIDE(ring_in_next, ring_out_next)(&batch, &size);
		if (!words)
			return 1;
		record.record = soak_read((struct record __arena *)words);
		for (i = 0; i < SOAK_MORE; i++)
			if (sizeof(struct record) + 8 * i < size)
				record.more[i] = ads_load(words + sizeof(struct record) / 8 + i);
		rc = SOAK_SIDE(ring_in_release, ring_out_release)(&batch);
	}
	if (!rc && soak_judge_more(&record, size))
		return 1;
	return soak_arrived(SOAK_RINGS, rc, &record.record);
}

/* --- overwriting byte rings: records may be missing, none goes back ----------------------------- */

ADS_GLOBAL int soak_recorder_push(__u64 key, __u64 stamp)
{
	struct record record = soak_record(soak_ends[SOAK_RECORDERS].sent, stamp);

	return soak_sent(SOAK_RECORDERS, SOAK_SIDE(recorder_out_push, recorder_in_push)(&record, sizeof(record)));
}

ADS_GLOBAL int soak_recorder_pop(__u64 key, __u64 stamp)
{
	struct soak_ends *ends = &soak_ends[SOAK_RECORDERS];
	struct record record = {0};
	__u32 size = 0;
	int rc = SOAK_SIDE(recorder_in_pop, recorder_out_pop)(&record, sizeof(record), &size);

	if (rc)
		return rc;
	if (size != sizeof(record) || soak_judge(0, &record, record.key) || record.key + 1 < ends->expected)
		return 1;
	if (record.key + 1 == ends->expected)
		return SOAK_AGAIN;
	ends->expected = record.key + 1;
	return 0;
}

/* --- MPMC ring: this side sends and takes on the same ---------------------------------------- */

ADS_GLOBAL int soak_mpmc_push(__u64 key, __u64 stamp)
{
	struct record record = soak_record(key, stamp);

	return mpmc_push(&record);
}

ADS_GLOBAL int soak_mpmc_pop(__u64 key, __u64 stamp)
{
	struct record record = {0};
	int rc = mpmc_pop(&record);

	return soak_judge(rc, &record, record.key);
}

/* --- ordered map -------------------------------------------------------------------------- */

ADS_GLOBAL int soak_ordered_insert(__u64 key, __u64 stamp)
{
	struct record record = soak_record(key, stamp);

	return ordered_insert(&key, &record);
}

ADS_GLOBAL int soak_ordered_replace(__u64 key, __u64 stamp)
{
	struct record record = soak_record(key, stamp);

	return ordered_replace(&key, &record);
}

ADS_GLOBAL int soak_ordered_update(__u64 key, __u64 stamp)
{
	struct record record = soak_record(key, stamp);

	return ordered_update(&key, &record);
}

ADS_GLOBAL int soak_ordered_delete(__u64 key, __u64 stamp)
{
	return ordered_delete(&key);
}

ADS_GLOBAL int soak_ordered_pop(__u64 key, __u64 stamp)
{
	struct record record = {0};
	int rc = ordered_pop(&key, &record);

	return soak_judge(rc, &record, key);
}

ADS_GLOBAL int soak_ordered_pop_first(__u64 key, __u64 stamp)
{
	struct record record = {0};
	int rc = ordered_pop_first(&key, &record);

	return soak_judge(rc, &record, key);
}

ADS_GLOBAL int soak_ordered_get(__u64 key, __u64 stamp)
{
	struct record record = {0};
	int rc = ordered_get(&key, &record);

	return soak_judge(rc, &record, key);
}

ADS_GLOBAL int soak_ordered_lower_bound(__u64 key, __u64 stamp)
{
	struct record record = {0};
	__u64 least = key;
	int rc = ordered_lower_bound(&key, &record);

	return !rc && key < least ? 1 : soak_judge(rc, &record, key);
}

ADS_GLOBAL int soak_ordered_walk(__u64 key, __u64 stamp)
{
	struct ordered_cursor cursor = {0};
	struct record record = {0};
	__u64 least = key;
	__u32 i;
	int rc = ordered_seek(&cursor, &key);

	if (rc)
		return rc;
	for (ads_each(i, SOAK_WALK)) {
		rc = ordered_next(&cursor, &record);
		if (!rc)
			rc = cursor.key < least ? 1 : soak_judge(0, &record, cursor.key);
		if (rc)
			break;
		least = cursor.key + 1;
	}
	return rc;
}

/* --- array -------------------------------------------------------------------------------- */

static ADS_INLINE int soak_array_count(__u32 index)
{
	struct cell __arena *cell = array_lookup(index);

	if (!cell)
		return ADS_NO_MEMORY;
	ads_add(&cell->words[0], 1);
	return 0;
}

ADS_GLOBAL int soak_array_add(__u64 key, __u64 stamp)
{
	return soak_array_count((__u32)key % SOAK_COUNTERS);
}

/* Anywhere: the first one in a chunk makes it. Seldom, so that it lasts. */
ADS_GLOBAL int soak_array_touch(__u64 key, __u64 stamp)
{
	return soak_is_rare(stamp, 8192) ? soak_array_count((__u32)(stamp >> 40) % (SOAK_CELLS - SOAK_STORED))
					 : ADS_ABSENT;
}

static ADS_INLINE __u64 soak_array_word(__u32 index, __u32 i, __u32 stamp)
{
	return soak_check(4ull * index + i, stamp) << 32 | stamp;
}

ADS_GLOBAL int soak_array_set(__u64 key, __u64 stamp)
{
	__u32 index = SOAK_CELLS - SOAK_STORED + (__u32)key % SOAK_STORED;
	struct cell cell;
	__u32 i;

	for (i = 0; i < 4; i++)
		cell.words[i] = soak_array_word(index, i, (__u32)(stamp >> 32));
	return array_set(index, &cell);
}

/* Words of several writers may be together, but each is whole, and belongs there. */
ADS_GLOBAL int soak_array_get(__u64 key, __u64 stamp)
{
	__u32 index = SOAK_CELLS - SOAK_STORED + (__u32)key % SOAK_STORED;
	struct cell cell = {0};
	__u32 i;
	int rc = array_get(index, &cell);

	for (i = 0; i < 4; i++)
		if (!rc && cell.words[i] && cell.words[i] != soak_array_word(index, i, (__u32)cell.words[i]))
			rc = 1;
	return rc;
}

/* --- intrusive list -------------------------------------------------------------------------- */

static ADS_INLINE struct item __arena *soak_item(__u64 key, __u64 stamp)
{
	struct item __arena *item = items_alloc();

	if (item)
		soak_write((struct record __arena *)item, soak_record(key, stamp));
	return item;
}

/* Give a record back that we have taken out: it is as whoever linked it had written it. */
static ADS_INLINE int soak_item_free(struct item __arena *item)
{
	struct record record = soak_read((struct record __arena *)item);

	return items_free(item) ? 1 : soak_judge(0, &record, record.key);
}

ADS_GLOBAL int soak_linked_insert(__u64 key, __u64 stamp)
{
	__u64 order = soak_order(key);
	struct item __arena *item = soak_item(order, stamp);
	int rc;

	if (!item)
		return ADS_FULL;
	rc = linked_insert(order, item);
	return rc && soak_item_free(item) ? 1 : rc;
}

ADS_GLOBAL int soak_linked_push(__u64 key, __u64 stamp)
{
	struct item __arena *item = soak_item(SOAK_PUSHED, stamp);
	__u64 order = 0;
	int rc;

	if (!item)
		return ADS_FULL;
	rc = linked_push(item, &order);
	return rc && soak_item_free(item) ? 1 : rc;
}

/* Of a record that was found anything may have become meanwhile: then it is that. */
ADS_GLOBAL int soak_linked_remove(__u64 key, __u64 stamp)
{
	struct item __arena *item = linked_lookup(soak_order(key));
	int rc;

	if (!item)
		return ADS_ABSENT;
	rc = linked_remove(item);
	return rc ? rc : soak_item_free(item);
}

/* Take up to two pushed ones away, as of the list. */
ADS_GLOBAL int soak_linked_drain(__u64 key, __u64 stamp)
{
	struct item __arena *item;
	__u32 i;
	int rc = 0;

	for (ads_each(i, 2)) {
		item = linked_first();
		if (!item || ads_load(&item->record.key) != SOAK_PUSHED)
			return i ? 0 : ADS_ABSENT;
		item = linked_pop_first();
		if (!item)
			return ADS_ABSENT;
		rc = soak_item_free(item);
		if (rc)
			break;
	}
	return rc;
}

/* Take one out and link it elsewhere. */
ADS_GLOBAL int soak_linked_move(__u64 key, __u64 stamp)
{
	struct item __arena *item = linked_pop(soak_order(key));
	__u64 order = soak_order(key + 1);
	struct record record;
	int rc;

	if (!item)
		return ADS_ABSENT;
	record = soak_read((struct record __arena *)item);
	if (soak_judge(0, &record, record.key))
		return 1;
	soak_write((struct record __arena *)item, soak_record(order, stamp));
	rc = linked_insert(order, item);
	return rc && soak_item_free(item) ? 1 : rc;
}

ADS_GLOBAL int soak_linked_contains(__u64 key, __u64 stamp)
{
	struct item __arena *item = linked_lookup(soak_order(key));
	int rc = item ? linked_contains(item) : 0;

	return rc == 1 ? ADS_OK : rc ? rc : ADS_ABSENT;
}

ADS_GLOBAL int soak_linked_walk(__u64 key, __u64 stamp)
{
	struct linked_cursor cursor = {0};
	__u64 last = 0;
	__u32 i;

	for (ads_each(i, SOAK_WALK)) {
		if (!linked_next(&cursor))
			return cursor.error;
		if (cursor.scan.hash <= last)
			return 1;
		last = cursor.scan.hash;
	}
	return 0;
}

/* --- rings of many: all send, BPF takes; user space reads what is oldest ------------------------- */

#define SOAK_SEQUENCE ((1ull << 48) - 1)

/* The key of the next record: who sends it, and how many it has sent. */
static ADS_INLINE __u64 soak_many_key(__u64 stamp)
{
#if ADS_BPF
	return stamp & 1 ? (__u64)SOAK_CHURN << 48 | soak_many.sent : (__u64)SOAK_NESTED << 48;
#else
	(void)stamp;
	return soak_producer << 48 | *soak_sent_to_many;
#endif
}

static ADS_INLINE int soak_many_sent(__u64 stamp, int rc)
{
#if ADS_BPF
	if (!rc && stamp & 1)
		soak_many.sent++;
#else
	(void)stamp;
	if (!rc)
		++*soak_sent_to_many;
#endif
	return rc;
}

ADS_GLOBAL int soak_many_push(__u64 key, __u64 stamp)
{
	struct record record = soak_record(soak_many_key(stamp), stamp);

	return soak_many_sent(stamp, many_push(&record, sizeof(record)));
}

/* Fill one in place, or give it up. */
ADS_GLOBAL int soak_many_reserve(__u64 key, __u64 stamp)
{
	struct record record = soak_record(soak_many_key(stamp), stamp);
	struct ads_rings_draft draft = {0};
	struct record __arena *place = many_reserve(&draft, sizeof(record));

	if (!place)
		return ADS_FULL;
	soak_write(place, record);
	if (stamp >> 60 == 0) {
		many_discard(&draft);
		return ADS_ABSENT;
	}
	return soak_many_sent(stamp, many_submit(&draft));
}

/* Records of one sender come in order in each ring; once more, if it died before it knew. */
ADS_GLOBAL int soak_many_pop(__u64 key, __u64 stamp)
{
	__u32 ring = (__u32)(stamp >> 40) & (ADS_RINGS_MOST - 1);
	struct ads_ref ref = {many.each[ring], 0, 0, 0};
	struct record record = {0};
	__u32 size = 0;
	int rc;
#if ADS_BPF
	__u64 expected, sequence;
	__u32 count, sender, at;

	rc = ads_ring_pop(ads_here(), ref, &record, sizeof(record), &size);
	if (rc)
		return rc;
	if (size != sizeof(record) || soak_judge(0, &record, record.key))
		return 1;
	for (count = 1; count < ADS_RINGS_MOST; count++)
		if (many.each[count] == many.each[0])
			break;
	sender = (__u32)(record.key >> 48);
	if (sender >= SOAK_PRODUCERS)
		return 1;
	if (sender == SOAK_NESTED)
		return 0;
	at = ring % count * SOAK_PRODUCERS + sender;
	ads_forget(at); /* else the verifier does not see what bounds it */
	at &= ADS_RINGS_MOST * SOAK_PRODUCERS - 1;
	sequence = record.key & SOAK_SEQUENCE;
	expected = soak_many.next[at];
	if (sequence + 1 == expected)
		return SOAK_AGAIN;
	if (sequence < expected)
		return 1;
	soak_many.next[at] = sequence + 1;
	return 0;
#else
	struct ads_ring_cursor cursor;

	rc = ads_ring_walk(ads_here(), ref, &cursor);
	if (!rc)
		rc = ads_ring_read(ads_here(), ref, &cursor, &record, sizeof(record), &size);
	if (rc)
		return rc;
	return size != sizeof(record) ? 1 : soak_judge(0, &record, record.key);
#endif
}

/* --- a map of many keys that is small at first, and made anew again and again --------------------- */

static ADS_INLINE struct ads_ref soak_wide_ref(void)
{
	struct ads_ref ref = {(__u32)soak_wide, 8, sizeof(struct record), 0};

	return ref;
}

/* What it says while there is none, or it has been removed. */
static ADS_INLINE int soak_wide_said(int rc)
{
	return rc == ADS_REMOVED ? ADS_ABSENT : rc;
}

static ADS_INLINE __u64 soak_wide_key(__u64 stamp)
{
	return stamp >> 20 & 0xfff;
}

static ADS_INLINE int soak_wide_store(__u64 stamp, enum ads_update_mode mode)
{
	__u64 key = soak_wide_key(stamp);
	struct record record = soak_record(key, stamp);
	__u32 entry;

	if (!soak_wide)
		return ADS_ABSENT;
	return soak_wide_said(ads_hashmap_update(ads_here(), soak_wide_ref(), &key, &record, mode, &entry));
}

ADS_GLOBAL int soak_wide_insert(__u64 key, __u64 stamp)
{
	return soak_wide_store(stamp, ADS_INSERT);
}

ADS_GLOBAL int soak_wide_update(__u64 key, __u64 stamp)
{
	return soak_wide_store(stamp, ADS_ANY);
}

ADS_GLOBAL int soak_wide_delete(__u64 key, __u64 stamp)
{
	__u64 at = soak_wide_key(stamp);

	return soak_wide ? soak_wide_said(ads_hashmap_delete(ads_here(), soak_wide_ref(), &at)) : ADS_ABSENT;
}

ADS_GLOBAL int soak_wide_get(__u64 key, __u64 stamp)
{
	__u64 at = soak_wide_key(stamp);
	struct record record = {0};
	int rc = soak_wide ? ads_hashmap_get(ads_here(), soak_wide_ref(), &at, &record) : ADS_ABSENT;

	return soak_judge(soak_wide_said(rc), &record, at);
}

/* --- all of them --------------------------------------------------------------------------------- */

/* Do one operation on one of the first `keys` keys. */
ADS_GLOBAL int soak_operate(__u32 operation, __u64 random, __u64 keys)
{
	__u64 key = keys ? (random >> 24) % keys : 0;
	int rc;

	(void)ads_here();
	switch (operation) {
#define SOAK_CASE(name)                                                        \
	case SOAK_##name:                                                      \
		rc = soak_##name(key, random);                                 \
		break;
	SOAK_OPERATIONS(SOAK_CASE)
#undef SOAK_CASE
	default:
		return SOAK_OTHER;
	}
	switch (rc) {
	case ADS_OK:
		return SOAK_OK;
	case ADS_ABSENT:
		return SOAK_ABSENT;
	case ADS_EXISTS:
		return SOAK_EXISTS;
	case ADS_FULL:
		return SOAK_FULL;
	case ADS_NO_MEMORY:
		return SOAK_NO_MEMORY;
	case ADS_BUDGET:
		return SOAK_BUDGET;
	case ADS_DAMAGED:
		return SOAK_DAMAGED;
	case SOAK_AGAIN:
	case SOAK_LOST:
		return rc;
	}
	return rc == 1 ? SOAK_WRONG : SOAK_OTHER;
}

/* Which operation a random number chooses among those of a mask; SOAK_KINDS: none, ask again. */
static ADS_INLINE __u32 soak_choose(__u64 random, __u64 mask)
{
	__u32 operation = (__u32)(random >> 40) % SOAK_KINDS;

	return mask >> operation & 1 ? operation : SOAK_KINDS;
}

#endif /* SOAK_H */
