/* SPDX-License-Identifier: MIT */
/*
 * owner.h - who in user space has an entry in hand, so that it can be returned if they die.
 *
 * A thread that writes has a line in the arena's registry, and names there, before the CAS that
 * gets it one, the entry that it is about to have:
 *
 *	struct ads_owner (one cache line)
 *	+-----+-------+------+---------+---------+
 *	| who | where | pool | hand[0] | hand[1] |
 *	+-----+-------+------+---------+---------+
 *	who      {start time of the thread:32, state:2, thread id:30}, 0: the line is free
 *	where    inode of the pid namespace that the id is of
 *	pool     offset of the pool whose entries are in hand
 *	hand[0]  {version:32, entry:27, aimed:1}: taken from the pool, not published yet
 *	hand[1]  the same: deleted by us, not given back yet. One that is kept to be used next is in hand[0]
 *		 too, with the version that its link gets: whichever it has, it is ours
 *
 * After a death nobody can ask whether that CAS happened, so user space says it in the entry's
 * link word as well, where BPF programs, which cannot die, need not:
 *
 *	take	1 CAS the stack's top: the entry at it is spoken for	commit
 *		2 CAS the entry's link FREE -> TAKEN			anybody may
 *		3 CAS the top to the entry below			anybody may
 *	give	1 link PUSHING
 *		2 CAS the top to the entry, "from user space"		commit
 *		3 CAS the link PUSHING -> FREE				anybody may
 *	delete	the mark in the link says: by user space		commit
 *
 * Who comes to a top with such a mark first helps it on. So a link word that is TAKEN, PUSHING (and
 * at no top), deleted by user space, or aimed with the version in a dead thread's hand and in no
 * list, is the dead one's, for sure: reap.h gives it back while BPF programs and others go on.
 *
 * Who may call     user space; BPF programs that see a thread exit call ads_owner_exit().
 * Cost             two or three stores to a line of one's own for an operation that takes or
 *                  deletes an entry; 2 CAS more to take and 1 more to give one. The first write of a
 *                  thread reads /proc once. BPF: a test of two bits of a word that it has.
 * Death            a line stays until a reaper comes.
 * Memory runs out  no line is free: the thread writes all the same, and the arena counts it as a stray:
 *                  what it has in hand when it dies is found only by a check that stops the writers.
 * Limits           one line for 16 KiB of arena, at most 512: threads that write at once. Threads of
 *                  another pid namespace are reaped only by processes of that one.
 */
#ifndef ARENADS_OWNER_H
#define ARENADS_OWNER_H

#include "layout.h"

#define ADS_OWNER_CLAIMED (1ull << 30) /* the line is being prepared */
#define ADS_OWNER_DEAD (2ull << 30)    /* seen to exit */
#define ADS_OWNER_STATE (3ull << 30)
#define ADS_OWNER_ID (ADS_OWNER_CLAIMED - 1)
#define ADS_HAND_AIMED 1u
#define ADS_HAND_ENTRY (~31u)

/* The lines of the registry: how many, *first the offset of the first. */
static ADS_INLINE __u32 ads_owners(struct ads_arena *a, __u32 *first)
{
	__u64 word = ads_load(&ads_root_of(a)->owners);

	(void)a;
	*first = (__u32)word;
	return (__u32)(word >> 32) <= ADS_OWNERS_MOST ? (__u32)(word >> 32) : 0;
}

#if ADS_BPF

#define ads_by_user() 0
#define ads_hand_take(arena, pool, entry, version) ((void)(version))
#define ads_hand_aim(arena, entry, version) ((void)(version))
#define ads_hand_delete(arena, pool, entry, version) ((void)(version))
#define ads_hand_pass(arena) ((void)(arena))
#define ads_hand_clear(arena) ((void)(arena))

#define ADS_INITIAL_PID_NAMESPACE 0xeffffffcu

/*
 * Tell that a thread has exited, by its id in the initial pid namespace: for a program at
 * sched_process_exit. Its entries can be given back without a look at /proc. 1 if it had a line.
 */
ADS_GLOBAL int ads_owner_exit(struct ads_arena *a, __u32 thread)
{
	__u32 first, count = ads_owners(a, &first);
	int found = 0;
	__u32 i;

	for (ads_each(i, count)) {
		struct ads_owner __arena *line = ads_at(a, struct ads_owner, first + 64 * i);
		__u64 who = ads_load_acquire(&line->who); /* A21, pairs with R21 */

		if ((who & (ADS_OWNER_ID | ADS_OWNER_STATE)) == thread &&
		    ads_load(&line->where) == ADS_INITIAL_PID_NAMESPACE)
			found |= ads_cas(&line->who, who, who | ADS_OWNER_DEAD) == who; /* R21 */
	}
	return found;
}

#else

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <fcntl.h>

#ifndef ads_by_user /* a test has actors that stand for BPF programs */
#define ads_by_user() 1
#endif

/* --- which threads live ------------------------------------------------------------------------ */

/* When a thread started, in clock ticks since boot; 0: there is none, or it is a zombie; 1: unknown. */
static inline __u32 ads_thread_started(const char *place)
{
	char text[1024], *field;
	int fd = open(place, O_RDONLY | O_CLOEXEC);
	ssize_t got;
	int i;

	if (fd < 0)
		return access("/proc/self/stat", F_OK) ? 1 : 0;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return 0;
	text[got] = 0;
	/* The name, in parentheses, may hold anything; state is the field behind it, start the 22nd. */
	field = strrchr(text, ')');
	if (!field || !field[1] || !field[2] || field[2] == 'Z' || field[2] == 'X')
		return 0;
	for (i = 0, field += 2; field && i < 19; i++)
		field = strchr(field + 1, ' ');
	i = field ? (int)(__u32)strtoull(field, 0, 10) : 0;
	return i ? (__u32)i : 1;
}

static inline __u64 ads_pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) ? 1 : (__u64)st.st_ino;
}

#ifndef ads_owner_is_dead /* a test decides itself who is */
/* Whether the thread that a line names can never run again; if in doubt it can. */
static inline int ads_owner_is_dead(const struct ads_owner *line, __u64 who)
{
	__u64 where = ads_load((const __u64 *)&line->where);
	__u32 started;
	char place[64];

	if (who & ADS_OWNER_DEAD)
		return 1;
	if (where != ads_pid_namespace())
		return 0;
	snprintf(place, sizeof(place), "/proc/%u/stat", (__u32)(who & ADS_OWNER_ID));
	started = ads_thread_started(place);
	return started != 1 && started != (__u32)(who >> 32);
}
#endif

/* --- this thread's line -------------------------------------------------------------------------- */

#ifndef ads_owner_line /* a test has lines for its actors */

struct ads_owner_cache {
	const void *base;
	__u64 id; /* of the arena */
	struct ads_owner *line;
	int generation;
};

static __thread struct ads_owner_cache ads_owner_cached[4];
static int ads_owner_generation; /* a child's threads are others: they grow with each fork */
static int ads_owner_watches_forks;

static inline void ads_owner_in_child(void)
{
	ads_owner_generation++;
}

static ADS_NOINLINE struct ads_owner *ads_owner_register(struct ads_arena *a, struct ads_owner_cache *cached)
{
	__u64 id = (__u64)syscall(SYS_gettid) & ADS_OWNER_ID;
	__u64 who = (__u64)ads_thread_started("/proc/thread-self/stat") << 32 | id;
	__u64 where = ads_pid_namespace();
	struct ads_owner *line = 0;
	__u32 first, i, count = ads_owners(a, &first);

	if (!ads_owner_watches_forks) {
		ads_owner_watches_forks = 1;
		pthread_atfork(0, 0, ads_owner_in_child);
	}
	if (count && ads_bad(a, first, 64ull * count))
		count = 0;
	for (i = 0; i < count && !line; i++) {
		/* Spread: two threads that begin together do not meet at the first line. */
		struct ads_owner *at = ads_at(a, struct ads_owner, first + 64 * ((i + id) % count));

		/* A line of this thread already: another copy of this header made it. */
		if (ads_load(&at->who) == who && ads_load(&at->where) == where)
			continue;
		if (!ads_load(&at->who) && !ads_cas(&at->who, 0, who | ADS_OWNER_CLAIMED)) { /* R21 */
			ads_store(&at->where, where);
			/* R21: whoever sees the thread sees where it is one. */
			if (ads_cas(&at->who, who | ADS_OWNER_CLAIMED, who) == (who | ADS_OWNER_CLAIMED))
				line = at;
		}
	}
	if (!line)
		ads_add(&ads_root_of(a)->strays, 1);
	cached->base = a->base;
	cached->id = a->id;
	cached->line = line;
	cached->generation = ads_owner_generation;
	return line;
}

/* The line of this thread in the registry, NULL if it has none. */
static ADS_INLINE struct ads_owner *ads_owner_line(struct ads_arena *a)
{
	struct ads_owner_cache *cached = &ads_owner_cached[((unsigned long)a->base >> 32) & 3];

	if (ADS_LIKELY(cached->base == a->base && cached->id == a->id && cached->generation == ads_owner_generation))
		return cached->line;
	return ads_owner_register(a, cached);
}

/* Give this thread's line up: before it closes the arena. */
static inline void ads_owner_leave(struct ads_arena *a)
{
	struct ads_owner_cache *cached = &ads_owner_cached[((unsigned long)a->base >> 32) & 3];

	if (cached->base == a->base && cached->id == a->id && cached->generation == ads_owner_generation && cached->line &&
	    !(a->flags & ADS_READONLY))
		ads_store_release(&cached->line->who, 0); /* R21: our hands were empty */
	cached->base = 0;
}
#endif

/* --- what it has in hand -------------------------------------------------------------------------- */

/* Stores to a line of our own: no CAS of ours comes before them to anybody's eyes, on x86 by the
 * CAS's own order, elsewhere too: it is a full barrier. */
static ADS_INLINE void ads_hand_store(__u64 *word, __u64 value)
{
	ads_store_release_own(word, value); /* R19: a hand that is empty has let go of its entry */
}

/* An entry that we are about to take; `version` is that of its link when it will be TAKEN. */
static ADS_INLINE void ads_hand_take(struct ads_arena *a, __u32 pool, __u32 entry, __u32 version)
{
	struct ads_owner *line = ads_by_user() ? ads_owner_line(a) : 0;

	if (!line)
		return;
	ads_hand_store(&line->pool, pool);
	ads_hand_store(&line->hand[0], (__u64)version << 32 | entry);
}

/* The entry that we have taken is about to get a link with this version, to be published. */
static ADS_INLINE void ads_hand_aim(struct ads_arena *a, __u32 entry, __u32 version)
{
	struct ads_owner *line = ads_by_user() ? ads_owner_line(a) : 0;

	if (line)
		ads_hand_store(&line->hand[0], (__u64)version << 32 | entry | ADS_HAND_AIMED);
}

/* An entry that we are about to delete; `version` is that of its link when it will be marked. */
static ADS_INLINE void ads_hand_delete(struct ads_arena *a, __u32 pool, __u32 entry, __u32 version)
{
	struct ads_owner *line = ads_by_user() ? ads_owner_line(a) : 0;

	if (!line)
		return;
	ads_hand_store(&line->pool, pool);
	ads_hand_store(&line->hand[1], (__u64)version << 32 | entry);
}

/* The entry that we have deleted is in the other hand now, taken. */
static ADS_INLINE void ads_hand_pass(struct ads_arena *a)
{
	struct ads_owner *line = ads_by_user() ? ads_owner_line(a) : 0;

	if (line)
		ads_hand_store(&line->hand[1], 0);
}

static ADS_INLINE void ads_hand_clear(struct ads_arena *a)
{
	struct ads_owner *line = ads_by_user() ? ads_owner_line(a) : 0;

	if (!line)
		return;
	if (line->hand[0])
		ads_hand_store(&line->hand[0], 0);
	if (line->hand[1])
		ads_hand_store(&line->hand[1], 0);
}

#endif /* !ADS_BPF */
#endif /* ARENADS_OWNER_H */
