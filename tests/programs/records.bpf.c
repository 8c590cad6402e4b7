/* SPDX-License-Identifier: MIT */
/*
 * records.bpf.c - every operation of intrusive lists, one a run: tasks of a pool, in the list of
 * those that are ready or of those that wait, and in the list of all at the same time.
 */
#include <arenads/bpf.h>

struct task {
	__u64 pid;
	struct ads_node queue;
	__u64 weight;
	struct ads_node all;
};

ADS_ARENA(4 * ADS_MIB);
ADS_POOL(tasks, struct task, 500);
ADS_INTRUSIVE(ready, tasks, struct task, queue);
ADS_INTRUSIVE(waiting, tasks, struct task, queue);
ADS_INTRUSIVE(everyone, tasks, struct task, all);

char LICENSE[] SEC("license") = "GPL";

enum {
	ALLOC,
	FREE,
	READY_PUSH,
	READY_INSERT,
	READY_REMOVE,
	READY_POP,
	READY_POP_FIRST,
	READY_FIRST,
	READY_LOOKUP,
	READY_CONTAINS,
	READY_LEN,
	READY_SUM,
	READY_SUM_AFTER,
	WAITING_INSERT,
	WAITING_REMOVE,
	EVERYONE_INSERT,
	EVERYONE_REMOVE,
};

struct step {
	__u64 operation;
	__u64 task; /* an address */
	__u64 order;
	__u64 count; /* the answer */
	__u64 sum;
};

static ADS_NOINLINE int ready_sum(struct step *step)
{
	struct ready_cursor cursor = {};
	struct task __arena *task;

	if (!step)
		return 0;
	step->sum = step->count = 0;
	if (step->operation == READY_SUM_AFTER)
		ready_after(&cursor, step->order);
	while (ads_may_loop()) {
		task = ready_next(&cursor);
		if (!task)
			break;
		step->sum = step->sum * 31 + cursor.scan.hash * 7 + task->pid;
		step->count++;
	}
	return cursor.error;
}

static ADS_INLINE int answer(struct step *step, struct task __arena *task)
{
	if (!task)
		return 1;
	step->task = (__u64)(unsigned long)ads_user_form(task);
	return 0;
}

SEC("syscall") int on_tasks(struct step *step)
{
	struct task __arena *task = (struct task __arena *)(unsigned long)step->task;

	switch (step->operation) {
	case ALLOC:
		task = tasks_alloc();
		if (task)
			task->pid = step->order;
		return answer(step, task);
	case FREE:
		return tasks_free(task);
	}
	return ADS_INVALID;
}

SEC("syscall") int on_ready(struct step *step)
{
	struct task __arena *task = (struct task __arena *)(unsigned long)step->task;
	__u64 order = 0;
	int rc;

	switch (step->operation) {
	case READY_PUSH:
		rc = ready_push(task, &order);
		step->order = order;
		return rc;
	case READY_INSERT:
		return ready_insert(step->order, task);
	case READY_REMOVE:
		return ready_remove(task);
	case READY_POP:
		return answer(step, ready_pop(step->order));
	case READY_POP_FIRST:
		return answer(step, ready_pop_first());
	case READY_FIRST:
		return answer(step, ready_first());
	case READY_LOOKUP:
		return answer(step, ready_lookup(step->order));
	case READY_CONTAINS:
		return ready_contains(task);
	case READY_LEN:
		return (int)ready_len();
	case READY_SUM:
	case READY_SUM_AFTER:
		return ready_sum(step);
	}
	return ADS_INVALID;
}

SEC("syscall") int on_others(struct step *step)
{
	struct task __arena *task = (struct task __arena *)(unsigned long)step->task;

	switch (step->operation) {
	case WAITING_INSERT:
		return waiting_insert(step->order, task);
	case WAITING_REMOVE:
		return waiting_remove(task);
	case EVERYONE_INSERT:
		return everyone_insert(step->order, task);
	case EVERYONE_REMOVE:
		return everyone_remove(task);
	}
	return ADS_INVALID;
}

struct churn {
	__u64 seed;
	__u64 rounds;
	__u64 done;
	__u64 moved;
	__u64 lost;  /* records that could be linked nowhere: they are in no list then */
	__u64 wrong; /* orders that do not grow, records of which no two words fit */
};

/* Whoever removes a record owns it: it can be linked, whatever others do. */
static ADS_NOINLINE int link_somewhere(struct task __arena *task, __u64 order, int to_ready)
{
	int rc = to_ready ? ready_insert(order, task) : waiting_insert(order, task);

	if (rc == ADS_EXISTS)
		rc = to_ready ? ready_push(task, &order) : waiting_push(task, &order);
	return rc;
}

ADS_GLOBAL __u64 ready_wrong(void)
{
	struct ready_cursor cursor = {};
	struct task __arena *task;
	__u64 least = 0, wrong = 0; /* the order that the next one has at least */

	while (ads_may_loop()) {
		task = ready_next(&cursor);
		if (!task)
			break;
		wrong += cursor.scan.hash < least;
		wrong += task->weight != ~task->pid;
		least = cursor.scan.hash + 1;
	}
	return wrong + (cursor.error != ADS_ABSENT);
}

/* Records move between two lists, and through the pool, all the time; none may get lost. */
SEC("syscall") int churn(struct churn *ctx)
{
	__u64 seed = ctx->seed, rounds = ctx->rounds, i;
	__u64 moved = ads_unknown_zero(), lost = moved, wrong = moved;

	for (i = ads_unknown_zero(); i < rounds && ads_may_loop(); i++) {
		struct task __arena *task;
		__u64 pid;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		task = seed >> 63 ? ready_pop_first() : waiting_pop_first();
		if (!task)
			continue;
		if (!(seed >> 40 & 7)) { /* gone, and back as another one */
			pid = task->pid + 1;
			if (tasks_free(task))
				wrong++;
			task = tasks_alloc();
			if (!task) {
				lost++;
				continue;
			}
			task->pid = pid;
			task->weight = ~pid;
		}
		/* Far from 0: there is room for pushes. */
		if (link_somewhere(task, ADS_LIST_FIRST_ORDER + (seed >> 33 & 1023), seed >> 41 & 1))
			lost++;
		else
			moved++;
		if (!(seed >> 44 & 15))
			wrong += ready_wrong();
	}
	ctx->done = i;
	ctx->moved = moved;
	ctx->lost = lost;
	ctx->wrong = wrong;
	return 0;
}
