/* SPDX-License-Identifier: MIT */
/*
 * actor.c - the actors of history.h as user processes.
 *
 *	actor PATH
 *
 * opens the arena that is pinned at PATH. Each line on standard input, "KIND NUMBER OPERATIONS",
 * lets actor NUMBER do what its record says, OPERATIONS at a time; the answer is the last code.
 *
 * Compiled with ADS_POINTS, it dawdles in the middle of operations, so that others overtake it:
 * at one in HISTORY_DAWDLE shared accesses for some microseconds, at one in 32 times as many
 * until it is its turn again.
 */
#include "history.h"

#include <stdio.h>

#ifdef ADS_POINTS
#ifndef HISTORY_DAWDLE
#define HISTORY_DAWDLE 64
#endif

static void dawdle(int kind, const volatile void *word)
{
	__u32 random = bpf_get_prandom_u32();
	__u32 i;

	(void)kind;
	(void)word;
	if (random % (32 * HISTORY_DAWDLE) == 0)
		sched_yield();
	else if (random % HISTORY_DAWDLE == 0)
		for (i = random >> 16 & 4095; i; i--)
			ads_compiler_barrier();
}
#endif

static const struct {
	const char *name;
	int (*record)(struct history_run *run);
} kinds[] = {
	{"map", record_map},
	{"grace", record_grace},
	{"set", record_set},
	{"list", record_list},
	{"queue", record_queue},
	{"pool", record_pool},
	{"ordered", record_ordered},
	{"array", record_array},
	{"ring", record_ring},
	{"overwriting", record_overwriting},
	{"rings", record_rings},
	{"mpmc", record_mpmc},
	{"intrusive", record_intrusive},
};

int main(int argc, char **argv)
{
	struct ads_ref ref = {0, sizeof(__u64), sizeof(struct history_actor), 0};
	struct history_run run;
	char kind[16];

	if (argc != 2 || ads_arena_open_path(&arena, argv[1], 0) ||
	    ads_structure_open(&arena, "actors", ADS_KIND_HASHMAP, &ref))
		return 2;
	actors.handle = ref.offset;
#ifdef ADS_POINTS
	ads_point_hook = dawdle;
#endif
	while (scanf("%15s %llu %llu", kind, &run.actor, &run.operations) == 3) {
		int code = HISTORY_NO_ACTOR;
		size_t i;

		if (!strcmp(kind, "rings") && history_rings_know(history_actor_of(run.actor)->structure))
			return 2;
		for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
			if (strcmp(kinds[i].name, kind))
				continue;
			while ((code = kinds[i].record(&run)) == HISTORY_MORE || code == HISTORY_WAIT) {
				if (code == HISTORY_WAIT)
					sched_yield();
			}
		}
		printf("%d\n", code);
		fflush(stdout);
	}
	return 0;
}
