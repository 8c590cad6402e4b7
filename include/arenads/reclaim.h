/* SPDX-License-Identifier: MIT */
/*
 * reclaim.h - give entries that wait for a grace period back to their pool. User space only.
 *
 * A structure made with ADS_GRACE does not use a deleted or replaced entry again before every
 * BPF program that may hold a pointer into it has ended: the pointer that a program got from
 * lookup stays its key's entry for the whole run. Entries retire to one of two shards, that of the
 * pool's epoch; a grace period is one turn:
 *
 *	1 CAS the epoch to the next one		entries retire to the other shard from now on
 *	2 CAS the old shard's version up	who read its top before this cannot push any more
 *	3 wait for a grace period		programs that ran at 2 have ended
 *	4 pop and give, one by one, as long as the epoch is that of 1
 *
 * A pop that somebody has begun is finished before 2: it goes on from the very top that 2 changes.
 * 1 is done only when the shard of the next epoch is empty, so 4 never meets younger entries. Any
 * process may do any step, at the same time as others: each waits by itself between 2 and 4.
 *
 * membarrier(2) with MEMBARRIER_CMD_GLOBAL is synchronize_rcu(): it waits for programs that are
 * not sleepable. SEC("syscall") programs and other sleepable ones are not waited for, and
 * native programs, which run in a process, neither.
 *
 * Who may call     user space with a writable mapping; the Python package does it in the thread that
 *                  provisions, and when a structure is full. BPF only retires (alloc.h).
 * Cost             a delete: the pool's epoch and one shard for all CPUs instead of one each. A turn: two
 *                  CAS, the grace period (some 10 ms), 2 CAS an entry.
 * Commit           of 4: the pop. Then the entry is in hand until it is given.
 * Death            in 4: the one entry in hand is leaked, check finds it. Else nothing.
 * Memory runs out  with no process that reclaims, what is deleted stays away: the structure is full
 *                  (ADS_FULL) when live and waiting entries are max_entries.
 * Limits           the kernel must have membarrier(2), and no CPU in full tickless mode.
 */
#ifndef ARENADS_RECLAIM_H
#define ARENADS_RECLAIM_H

#include "alloc.h"

#if !ADS_BPF

#ifndef ads_grace_period /* a test may put its own programs' end here */
#define ADS_MEMBARRIER_QUERY 0
#define ADS_MEMBARRIER_GLOBAL 1
/* Wait until every BPF program that is running and not sleepable has ended; 0 or -errno. */
static inline int ads_grace_period(struct ads_arena *a)
{
	(void)a;
	return syscall(SYS_membarrier, ADS_MEMBARRIER_GLOBAL, 0, 0) ? -errno : 0;
}

/* Whether this kernel can: 0 or -errno. */
static inline int ads_grace_available(void)
{
	long commands = syscall(SYS_membarrier, ADS_MEMBARRIER_QUERY, 0, 0);

	if (commands < 0)
		return -errno;
	return commands & ADS_MEMBARRIER_GLOBAL ? 0 : -EOPNOTSUPP;
}
#endif

#define ads_retired_shard(a, pool, epoch) ads_shard_of(a, pool, ADS_SHARD_RETIRED + ((epoch) & 1))

static inline __u32 ads_shard_empty(struct ads_shard *shard)
{
	return !(__u32)ads_load_acquire(&shard->free); /* A2, pairs with R2 */
}

/*
 * Steps 1 and 2: 1 if entries wait, which may be given when a grace period has passed and the epoch
 * still is *epoch; 0 if none do.
 */
static inline int ads_pool_seal(struct ads_arena *a, struct ads_pool_ref pool, __u64 *epoch)
{
	struct ads_pool *p = ads_at(a, struct ads_pool, pool.offset);
	struct ads_shard *shard;
	__u64 top;
	__u32 i;

	for (ads_loop(i)) {
		__u64 now = ads_load_acquire(&p->epoch); /* A16, pairs with R16 */

		shard = ads_retired_shard(a, pool, now - 1);
		if (ads_shard_empty(shard)) {
			shard = ads_retired_shard(a, pool, now);
			if (ads_shard_empty(shard))
				return 0;
			if (ads_cas(&p->epoch, now, now + 1) != now) /* R16 */
				continue;
			now++;
		}
		*epoch = now;
		top = ads_load_acquire(&shard->free); /* A2, pairs with R2 */
		/* Who has begun to pop goes on from this very top. */
		if (ads_shard_helped(a, shard, top))
			continue;
		if (ads_cas(&shard->free, top, top + (1ull << 32)) == top) /* R2 */
			return 1;
	}
	return ADS_BUDGET;
}

/* Step 4: how many were given. */
static inline __s64 ads_pool_drain(struct ads_arena *a, struct ads_pool_ref pool, __u64 epoch)
{
	struct ads_pool *p = ads_at(a, struct ads_pool, pool.offset);
	struct ads_shard *shard = ads_retired_shard(a, pool, epoch - 1);
	__s64 given = 0;
	__u32 i;

	for (ads_loop(i)) {
		__u64 top = ads_load_acquire(&shard->free); /* A2, pairs with R2 */
		__u32 entry;

		/* A16. If the epoch changes after this, the shard was empty, so its version has changed. */
		if (ads_load_acquire(&p->epoch) != epoch || !(__u32)top)
			break;
		entry = ads_shard_pop_top(a, shard, pool, top);
		if (entry == ADS_NOWHERE)
			return ADS_DAMAGED;
		if (!entry)
			continue;
		ads_pool_give(a, pool, entry);
		given++;
	}
	ads_hand_clear(a); /* others may be waiting to know that we did not get one */
	return given;
}

/* Give back what waits in one structure that was made with ADS_GRACE, whose header has been checked: how
 * many entries, or an error. Waits for a grace period if there is anything. */
static inline __s64 ads_collection_reclaim(struct ads_arena *a, struct ads_ref ref)
{
	struct ads_pool_ref pool = ads_pool_of(ref);
	__u64 epoch;
	int rc = ads_may_change(a, ref.offset);

	if (!rc && ref.flags & ADS_GRACE)
		rc = ads_pool_seal(a, pool, &epoch);
	if (rc <= 0)
		return rc;
	rc = ads_grace_period(a);
	return rc ? rc : ads_pool_drain(a, pool, epoch);
}

#endif /* !ADS_BPF */
#endif /* ARENADS_RECLAIM_H */
