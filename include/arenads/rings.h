/* SPDX-License-Identifier: MIT */
/*
 * rings.h - rings of records of any size for many producers: some rings (ring.h), each producer takes one.
 *
 *	NAME.0  +--------------+      CPU 0's producers: try 0, then 1, 2, 3
 *	NAME.1  +--------------+      CPU 1's producers: try 1, then 2, 3, 4
 *	  ...                         ...
 *	NAME.n  +--------------+      all are consumed by one
 *
 * They are ordinary rings of the arena's directory, called NAME.0, NAME.1 and so on, so whatever is
 * done with a ring is done with them: consume, read, check, list, remove. NAME.0 is the last
 * to be made: when it is there, all are.
 *
 * A ring has one producer at a time because each takes its word `producer` first, from 0 to its own
 * name, and gives it back:
 *
 *	producer                                another, that nests in it or runs on another CPU
 *	1 CAS ring's word 0 -> its name
 *	2 pushes                                2 CAS fails: tries the next ring's word
 *	3 store word 0                          3 pushes there
 *
 * Nobody waits: after ADS_RINGS_TRIES rings that others have it is ADS_FULL. The number of the CPU only
 * spreads producers. It may change at once, be the same for many, or have no ring of its own: each
 * producer still has its ring alone.
 *
 * The name of a BPF program is 1: it cannot die. That of a user thread is the name in its line of the
 * registry (owner.h), which tells a reaper (reap.h) that a dead one has the ring. A thread without
 * a line produces nothing: nobody could ever take the ring back from it.
 *
 *	operation	cost beyond that of ring.h		commit
 *	push		1 CAS, own line				ring's: store of tail
 *	reserve		1 CAS, own line				none
 *	submit		a store, own line			ring's: store of tail
 *	discard		a store, own line			none
 *	enter		1 CAS, own line				none; 1 CAS more for each ring that others have
 *	leave		a store, own line			none
 *
 * The line is that of the ring's other words of its producer. In user space each also reads which CPU it is.
 *
 * Who may call     any number of producers, BPF programs and user threads, sleepable or not, nested or
 *                  not; as consumer of a ring, one at a time. Between reserve and submit or
 *                  discard, and between enter and leave, the ring is the caller's: others pass it by. A BPF
 *                  program that returns in between has it for ever (ads_rings_free).
 * Order            records of one ring come in the order in which they were published. There is none
 *                  between rings: those of one producer may be in several.
 * Death            of a producer that has a ring: what is not published is not seen, or is published with what
 *                  the next one pushes, as in ring.h. Until a reaper comes the others pass the ring by.
 * Memory runs out  never. Full: ADS_FULL, counted by the ring that was taken, even if others have
 *                  room. All that were tried are taken: ADS_FULL, counted by the first.
 * Budget runs out  as in ring.h.
 * Limits           1 to 64 rings; a name of up to 60 bytes. Who produces to one of the rings with what ring.h has
 *                  does not look whether it is taken, and damages the order of its records.
 */
#ifndef ARENADS_RINGS_H
#define ARENADS_RINGS_H

#include "owner.h"
#include "ring.h"
#if !ADS_BPF
#include "directory.h"
#endif

#define ADS_RINGS_MOST 64u /* a power of two */
#define ADS_RINGS_TRIES 4u

/*
 * Where the rings are: `each` of the functions below, ADS_RINGS_MOST offsets. With fewer rings they
 * come again and again, so that any number of a CPU leads to one.
 */
struct ads_rings {
	__u32 count;
	__u32 flags; /* ADS_OVERWRITE or 0 */
	__u32 each[ADS_RINGS_MOST];
};

/* A record that was reserved and is neither submitted nor discarded. Private to who produces. */
struct ads_rings_draft {
	struct ads_ring_draft record;
	__u64 name; /* what stands in the ring's word */
	__u32 ring; /* its offset, 0: nothing is reserved */
	__u32 pad;
};

#if ADS_BPF
#define ads_rings_cpu() ads_bpf_get_smp_processor_id()
#else
#define ads_rings_cpu() ((__u32)sched_getcpu())
#endif

/* What a producer writes into the word of its ring; 0: it may have none. */
static ADS_INLINE __u64 ads_rings_name(struct ads_arena *a)
{
	(void)a;
#if ADS_BPF
	return ADS_RING_BY_PROGRAM;
#else
	const struct ads_owner *line;

	if (!ads_by_user())
		return ADS_RING_BY_PROGRAM;
	line = ads_owner_line(a);
	return line ? ads_load(&line->who) & ~ADS_OWNER_STATE : 0;
#endif
}

/* Take a ring: 0, or who else has it. */
static ADS_INLINE __u64 ads_rings_take(struct ads_arena *a, __u32 ring, __u64 name)
{
	__u64 found;

	if (ads_bad(a, ring, sizeof(struct ads_ring)))
		return ~0ull;
	/* A34, pairs with R34: what the producer before us has committed. */
	found = ads_cas(&ads_at(a, struct ads_ring, ring)->producer, 0, name);
	ads_forget(found); /* else compilers for BPF make a number of whether it is 0, and look at that */
	return found;
}

/* Take one of the rings after that of a CPU: its offset, 0 if others have them. */
static ADS_NOINLINE __u32 ads_rings_take_another(struct ads_arena *a, const volatile __u32 *each, __u32 cpu, __u64 name)
{
	__u32 i;

	for (i = 1; i < ADS_RINGS_TRIES; i++) {
		__u32 ring = each[(cpu + i) & (ADS_RINGS_MOST - 1)];

		if (!ads_rings_take(a, ring, name))
			return ring;
	}
	return 0;
}

/*
 * Take a ring, *ring, which is the caller's until ads_rings_leave(). ADS_FULL: others have those that
 * were tried, or this thread has no line in the registry.
 */
static ADS_INLINE int ads_rings_enter(struct ads_arena *a, const volatile __u32 *each, __u32 *ring)
{
	__u32 cpu = ads_rings_cpu();
	__u32 first = each[cpu & (ADS_RINGS_MOST - 1)];
	__u64 name;

	if (!ads_writable(a))
		return ADS_READ_ONLY;
	name = ads_rings_name(a);
	*ring = first;
	if (!name)
		return ads_count(a, first, ADS_FULL);
	if (ADS_UNLIKELY(ads_rings_take(a, first, name) != 0)) {
		__u32 another = ads_rings_take_another(a, each, cpu, name);

		if (!another)
			return ads_count(a, first, ADS_FULL);
		*ring = another;
	}
	return ADS_OK;
}

/* Give the ring back that ads_rings_enter() has taken. */
static ADS_INLINE void ads_rings_leave(struct ads_arena *a, __u32 ring)
{
	(void)a;
	ads_store_release(&ads_at(a, struct ads_ring, ring)->producer, 0); /* R34 */
}

/* Append a record to a ring, *ring tells which, and let it be seen. ADS_FULL, ADS_TOO_LONG. */
static ADS_INLINE int ads_rings_push_to(struct ads_arena *a, const volatile __u32 *each, __u32 flags, const void *data,
					__u32 length, __u32 *ring)
{
	struct ads_ref ref = {0, 0, 0, flags};
	int rc = ads_rings_enter(a, each, ring);

	if (rc)
		return rc;
	ref.offset = *ring;
	rc = ads_ring_push(a, ref, data, length);
	ads_rings_leave(a, ref.offset);
	return rc;
}

/* The same, to whatever ring. */
static ADS_INLINE int ads_rings_push(struct ads_arena *a, const volatile __u32 *each, __u32 flags, const void *data,
				     __u32 length)
{
	__u32 ring;

	return ads_rings_push_to(a, each, flags, data, length, &ring);
}

/*
 * Room for a record of `length` bytes, at *place: fill it, then ads_rings_submit() or ads_rings_discard()
 * it. Until then the ring is the caller's. ADS_FULL, ADS_TOO_LONG.
 */
static ADS_INLINE int ads_rings_reserve(struct ads_arena *a, const volatile __u32 *each, __u32 flags, __u32 length,
					struct ads_rings_draft *draft, __u32 *place)
{
	struct ads_ref ref = {0, 0, 0, flags};
	int rc;

	draft->ring = 0;
	rc = ads_rings_enter(a, each, &ref.offset);
	if (rc)
		return rc;
	rc = ads_ring_reserve(a, ref, length, &draft->record, place);
	if (rc) {
		ads_rings_leave(a, ref.offset);
		return rc;
	}
	draft->ring = ref.offset;
#if !ADS_BPF
	draft->name = ads_load(&ads_ring_of(a, ref)->producer);
#endif
	return ADS_OK;
}

/* Whether the draft is one, and its ring still the caller's: a process that was forked since has it too. */
static ADS_INLINE int ads_rings_has(struct ads_arena *a, const struct ads_rings_draft *draft)
{
#if ADS_BPF
	(void)a;
	return draft->ring != 0;
#else
	return draft->ring && !ads_bad(a, draft->ring, sizeof(struct ads_ring)) &&
	       ads_load(&ads_at(a, struct ads_ring, draft->ring)->producer) == draft->name;
#endif
}

/* The reserved record is whole: let it be seen. ADS_NOT_RESERVED: the draft is none, or void. */
static ADS_INLINE int ads_rings_submit(struct ads_arena *a, __u32 flags, struct ads_rings_draft *draft)
{
	struct ads_ref ref = {draft->ring, 0, 0, flags};
	int rc;

	if (!ads_rings_has(a, draft))
		return ADS_NOT_RESERVED;
	draft->ring = 0;
	rc = ads_ring_submit(a, ref, &draft->record);
	ads_rings_leave(a, ref.offset);
	return rc;
}

/* Give a reservation up. */
static ADS_INLINE void ads_rings_discard(struct ads_arena *a, struct ads_rings_draft *draft)
{
	if (ads_rings_has(a, draft))
		ads_rings_leave(a, draft->ring);
	draft->ring = 0;
}

#if !ADS_BPF

/* Ring i, for what ring.h does with one. */
static inline struct ads_ref ads_rings_ref(const struct ads_rings *rings, __u32 i)
{
	struct ads_ref ref = {rings->each[i & (ADS_RINGS_MOST - 1)], 0, 0, rings->flags};

	return ref;
}

/* The name of ring i. ADS_INVALID: too long. */
static inline int ads_rings_spell(const char *name, __u32 i, char *to)
{
	int length = snprintf(to, ADS_NAME_SIZE, "%s.%u", name, i);

	return *name && length < (int)ADS_NAME_SIZE ? ADS_OK : ADS_INVALID;
}

/*
 * Open the rings of a name. ADS_ABSENT; ADS_WRONG_TYPE: what has one of the names is no ring, or
 * overwrites where the first does not.
 */
static inline int ads_rings_open(struct ads_arena *a, const char *name, struct ads_rings *rings)
{
	char spelt[ADS_NAME_SIZE];
	__u32 i;

	rings->count = rings->flags = 0;
	for (i = 0; i < ADS_RINGS_MOST; i++) {
		struct ads_ref ref = {0, 0, 0, 0};
		int rc = ads_rings_spell(name, i, spelt);

		if (!rc)
			rc = ads_structure_open(a, spelt, ADS_KIND_RING, &ref);
		if (rc == ADS_ABSENT && i)
			break;
		if (rc)
			return rc;
		if (i && ref.flags != rings->flags)
			return ADS_WRONG_TYPE;
		rings->flags = ref.flags;
		rings->each[i] = ref.offset;
	}
	rings->count = i;
	for (; i < ADS_RINGS_MOST; i++)
		rings->each[i] = rings->each[i % rings->count];
	return ADS_OK;
}

/* As many rings as there should be: one for each CPU, and one more for who nests in a single CPU's. */
static inline __u32 ads_rings_wanted(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	return cpus < 2 ? 2 : cpus < (long)ADS_RINGS_MOST ? (__u32)cpus : ADS_RINGS_MOST;
}

/* Whether there are rings of that name: ADS_OK or ADS_ABSENT, or an error. */
static inline int ads_rings_find(struct ads_arena *a, const char *name)
{
	struct ads_directory_value found;
	char spelt[ADS_NAME_SIZE];
	int rc = ads_rings_spell(name, 0, spelt);

	return rc ? rc : ads_directory_find(a, spelt, &found);
}

/* Make a ring and name it, unless it is there: 1, 0 if it is, or an error. */
static inline int ads_rings_add(struct ads_arena *a, const char *spelt, __u32 bytes, __u32 flags)
{
	struct ads_ref ref = {0, 0, 0, flags};
	struct ads_directory_value found;
	int rc = ads_directory_find(a, spelt, &found);

	if (rc == ADS_ABSENT)
		rc = ads_ring_create(a, &ref, bytes);
	else
		return rc;
	if (!rc)
		rc = ads_structure_name(a, spelt, ADS_KIND_RING, ref, NULL);
	return rc ? (rc == ADS_EXISTS ? 0 : rc) : 1;
}

/*
 * Make `count` rings (0: as many as there are CPUs, at least 2) of `bytes` each, rounded up to a power
 * of two; flags: ADS_OVERWRITE or 0. Afterwards open them. ADS_EXISTS: they are there, others perhaps. After
 * another error none is.
 */
static inline int ads_rings_create(struct ads_arena *a, const char *name, __u32 count, __u32 bytes, __u32 flags)
{
	__u32 of = count ? count : ads_rings_wanted(), i = of;
	char spelt[ADS_NAME_SIZE];
	__u64 made = 0;
	int rc = i > ADS_RINGS_MOST ? ADS_INVALID : ads_rings_find(a, name);

	while (rc == ADS_ABSENT && i--) { /* so that the first says that all are there */
		rc = ads_rings_spell(name, i, spelt);
		if (!rc)
			rc = ads_rings_add(a, spelt, bytes, flags);
		if (rc >= 0) {
			made |= (__u64)rc << i;
			rc = i ? ads_rings_find(a, name) : ADS_ABSENT;
		}
	}
	if (rc == ADS_ABSENT)
		return ADS_OK;
	if (!rc)
		return ADS_EXISTS; /* another has made them meanwhile, with ours among them */
	for (; i < of; i++)
		if (made >> i & 1 && !ads_rings_spell(name, i, spelt))
			ads_directory_remove(a, spelt);
	return rc;
}

/* How many of the rings have a producer now. */
static inline __u32 ads_rings_taken(struct ads_arena *a, const struct ads_rings *rings)
{
	__u32 i, taken = 0;

	for (i = 0; i < rings->count && i < ADS_RINGS_MOST; i++)
		taken += !ads_bad(a, rings->each[i], sizeof(struct ads_ring)) &&
			 ads_load(&ads_at(a, struct ads_ring, rings->each[i])->producer);
	return taken;
}

/*
 * Let go of rings that are taken, while nobody produces: those of BPF programs that returned without submit
 * or discard. How many.
 */
static inline __s64 ads_rings_free(struct ads_arena *a, const struct ads_rings *rings)
{
	__u32 i, freed = 0;

	if (!ads_writable(a))
		return ADS_READ_ONLY;
	for (i = 0; i < rings->count && i < ADS_RINGS_MOST; i++)
		if (!ads_bad(a, rings->each[i], sizeof(struct ads_ring)) &&
		    ads_load(&ads_at(a, struct ads_ring, rings->each[i])->producer)) {
			ads_rings_leave(a, rings->each[i]);
			freed++;
		}
	return freed;
}

#endif /* !ADS_BPF */
#endif /* ARENADS_RINGS_H */
