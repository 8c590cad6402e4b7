/* SPDX-License-Identifier: MIT */
/*
 * interleave_mpmc.h - what interleave.c explores of the MPMC ring (mpmc.h).
 *
 * Verbs: Q, q push and pop; L length; S read all without taking; X reap. In a setup only: Yk, Zk, Vk let the positions begin
 * at k, at 2^32 laps - k, at 2^64 - k; Hk puts both hints k back.
 *
 * A state's `room` is the number of entries for hands: with few of them a ring runs out of entries
 * before it is full.
 */

#define MPMC_HANDS 4 /* unless the state says how many */

static __u32 mpmc_hands(void)
{
	return state->room ? state->room : MPMC_HANDS;
}

static void mpmc_create(void)
{
	int rc = ads_mpmc_make(&arena, &ref, state->capacity, mpmc_hands());

	if (rc)
		give_up("cannot create the ring", rc);
}

/* As if `start` records had gone through the ring. */
static void mpmc_start_at(__u64 start)
{
	struct ads_mpmc *ring = ads_at(&arena, struct ads_mpmc, ref.offset);
	__u32 bits = ring->collection.header.most;
	__u64 *slots = (__u64 *)(ring + 1);
	__u64 i;

	fifo_start = ring->head = ring->tail = start;
	for (i = 0; i < state->capacity; i++)
		slots[(start + i) & (state->capacity - 1)] = (start + i) >> bits << 32 |
							     (__u32)slots[(start + i) & (state->capacity - 1)];
}

/* Read all that waits and take nothing, as through a read-only mapping. */
static void mpmc_read_all(struct op *op)
{
	struct ads_arena view = arena;
	struct ads_mpmc_cursor c;
	__u64 value[2];
	int rc;

	view.flags |= ADS_READONLY;
	rc = ads_mpmc_walk(&view, ref, &c);
	for (op->count = 0; !rc; op->count++) {
		rc = ads_mpmc_read(&view, ref, &c, value);
		if (rc)
			break;
		if (op->count == RECORDS || value[1] != ~value[0]) {
			rc = ADS_DAMAGED;
			break;
		}
		op->ids[op->count] = c.at.position - 1 - fifo_start;
		op->values[op->count] = value[0];
	}
	op->rc = rc == ADS_ABSENT ? ADS_OK : rc;
}

static void mpmc_run(struct op *op, __u32 *object)
{
	struct ads_mpmc *ring = ads_at(&arena, struct ads_mpmc, ref.offset);
	__u64 number = (__u64)(op->key - '0');
	__u64 value[2] = {op->value, ~op->value};
	int rc = ADS_OK;

	(void)object;
	switch (op->verb) {
	case 'Q':
		rc = ads_mpmc_push(&arena, ref, value);
		break;
	case 'q':
		rc = ads_mpmc_pop(&arena, ref, value);
		op->value = value[0];
		if (!rc && value[1] != ~value[0])
			rc = ADS_DAMAGED; /* torn */
		break;
	case 'L':
		op->value = ads_mpmc_len(&arena, ref);
		break;
	case 'S':
		mpmc_read_all(op);
		return;
	case 'Y':
		mpmc_start_at(number);
		break;
	case 'Z':
		mpmc_start_at(state->capacity * (1ull << 32) - number);
		break;
	case 'V':
		mpmc_start_at(0 - number);
		break;
	case 'X':
		rc = ads_owner_reap(&arena, NULL) < 0 ? ADS_DAMAGED : ADS_OK;
		break;
	case 'H':
		ring->head -= number;
		ring->tail -= number;
		break;
	default:
		rc = ADS_INVALID;
	}
	op->rc = rc; /* not before: an operation that dies has none */
}

/* Pushes and pops that ran while `op` did: none at the end, when all have returned or are dead. */
static __u64 mpmc_meanwhile(const struct op *op)
{
	__u64 count = 0;
	int i;

	if (op->actor >= ACTORS)
		return 0;
	for (i = 0; i < history_count; i++)
		count += history[i].actor != op->actor && history[i].invoked < op->returned &&
			 (!history[i].returned || history[i].returned > op->invoked);
	return count;
}

static int mpmc_apply(struct model *m, const struct op *op)
{
	int pending = op->rc == PENDING;
	__u64 count = (__u64)m->count, meanwhile;

	switch (op->verb) {
	case 'Q':
		if (count >= state->capacity)
			return op->rc == ADS_FULL;
		if (op->rc == ADS_FULL)
			return (__u32)held_by_others(op) >= mpmc_hands();
		return (pending || !op->rc) && model_add(m, m->more[0]++, op->value);
	case 'q':
		if (!count)
			return op->rc == ADS_ABSENT;
		if (!pending && (op->rc || op->value != m->values[0]))
			return 0;
		model_remove(m, 0);
		return 1;
	case 'L':
		meanwhile = mpmc_meanwhile(op);
		return !pending && op->value <= count + meanwhile && op->value + meanwhile >= count;
	case 'X':
		return pending || !op->rc;
	default:
		return !pending && !op->rc;
	}
}

static const char *mpmc_books(int dead)
{
	struct ads_check_report report;

	/* What the dead leaked has been repaired. */
	if (run_check(&report, 0) || report.live != (__u64)last_model->count)
		return "the check counts other records than the model";
	if (!dead && !start_dead && report.leaked)
		return "an entry was leaked";
	if (report.carved != state->capacity + mpmc_hands() + ads_shards_used() ||
	    report.carved != report.live + report.free + report.unused)
		return "the check counts other entries than there are";
	return NULL;
}

/* Writes of a push: 1 claims the slot, 2 the entry's link, 3 and 4 the record, 5 the slot, 6 the link, 7
 * the hint, where it is moved. To a slot that is claimed already: 1 to 3 take an entry, 4 its link, 5
 * and 6 the record, 7 the link of the entry there, 8 the slot, 9 the link. Of a pop: 1 the slot, 2 the hint,
 * where it is moved. What one has done that died is known by the length. */
static const struct state mpmc_states[] = {
	{"empty", "", 2, 0},
	{"one record", "Q", 2, 0},
	{"full", "Q Q", 2, 0},
	{"wrapped", "Q Q q Q q", 2, 0},
	{"full and wrapped", "Q Q q q Q Q q Q", 2, 0},
	{"a single slot", "", 1, 0},
	{"a single slot, full", "Q", 1, 0},
	{"hints about to move", "Y7", 2, 0},
	{"hints about to move, one record", "Y6 Q", 2, 0},
	{"hints about to move, full", "Y6 Q Q", 2, 0},
	{"tail left behind", "Y7 Q/7 L", 2, 0},
	{"head left behind", "Y7 Q q/2 L", 2, 0},
	{"both left far behind", "Y8 H8 H8", 2, 0},
	{"both left far behind, full", "Y8 H8 H7 Q Q", 2, 0},
	{"laps about to wrap", "Z1", 2, 0},
	{"full across the end of laps", "Z1 Q Q", 2, 0},
	{"positions about to wrap", "V1", 2, 0},
	{"claimed by a dead thread", "Q/3 L", 2, 0},
	{"claimed by a dead thread, one record", "Q Q/3 L", 2, 0},
	{"claimed by a dead thread, one hand", "Q/3 L", 2, 1},
	{"a single slot, claimed by a dead thread", "Q/5 L", 1, 1},
	{"claimed by a dead thread, no hand", "Q/3 Q/5 L", 2, 1},
	{"the CPU has lost its spare entry", "Q/3 & Q L", 2, 0},
	{"the CPU has lost its spare entry, empty", "Q/3 & Q q L", 2, 1},
};

/* A thread that has died in the middle of each step, and is reaped while others work. */
static const struct state mpmc_deaths[] = {
	{"about to claim", "Q Q/1 L", 2, 0}, /* the next one claims the same entry, of the same version */
	{"about to claim a single slot", "Q/1 L", 1, 2},
	{"two about to claim", "Q/1 Q/1 L", 1, 0},
	{"the slot is claimed", "Q Q/2 L", 2, 0},
	{"the record is not written", "Q Q/3 L", 2, 0},
	{"the record is written", "Q Q/5 L", 2, 0},
	{"pushed, the link not live yet", "Q Q/6 L", 2, 0},
	{"pushed, the hint not moved yet", "Y6 Q Q/7 L", 2, 0},
	{"the slot was lost, the record not written", "Q/3 Q L", 2, 0},
	{"the slot was lost, the link not changed", "Q/2 Q L", 1, 0},
	{"the slot was lost, the record written", "Q/5 Q L", 1, 2},
	{"the slot was lost, another has died too", "Q/2 Q/8 L", 2, 0},
	{"popped, the hint not moved yet", "Y7 Q q/2 L", 2, 0},
	{"pushed and popped", "Q/6 q L", 1, 2},
};

/* Two BPF programs, on one CPU, whose spare entry only one can have, and on two; and user space with them. */
static void explore_mpmc_programs(const struct state *states, int count)
{
	static const char *const pairs[][2] = {
		{"Q", "Q"}, {"Q", "q"}, {"Q Q", "Q"}, {"Q Q", "q Q"}, {"Q q", "Q q"}, {"Q Q Q", "q q"}, {"Q q Q", "Q"},
	};
	static const char *const triples[][3] = {
		{"Q", "Q", "Q"}, {"Q", "Q", "q"}, {"q", "Q", "Q"}, {"Q q", "Q", "Q"},
	};
	int i, j;

	for (j = 0; j < count; j++) {
		for (i = 0; i < COUNT(pairs); i++) {
			run_programs(&states[j], pairs[i][0], pairs[i][1], NULL, same_cpu, &two_actors, 3);
			run_programs(&states[j], pairs[i][0], pairs[i][1], NULL, other_cpus, &two_actors, 3);
		}
		for (i = 0; i < COUNT(triples); i++)
			run_programs(&states[j], triples[i][0], triples[i][1], triples[i][2], same_cpu, &three_actors, 6);
	}
}

static void explore_mpmc(void)
{
	static const char *const single[] = {"Q", "q", "L", NULL};
	static const char *const all[] = {"Q", "q", "L", "Q Q", "q q", "Q q", "q Q", NULL};
	static const char *const reaper[] = {"X", NULL}, *const readers[] = {"S", NULL};
	static const char *const triples[][3] = {
		{"Q", "Q", "Q"}, {"Q", "Q", "q"}, {"Q", "q", "q"}, {"q", "q", "q"}, {"Q", "q", "L"}, {"Q", "q", "S"},
	};
	/* Of user space, a BPF program (unless on another CPU), and a reaper. */
	static const char *const reaped[][3] = {
		{"Q", "Q", "X"}, {"Q", "q", "X"}, {"q", "Q", "X"}, {"Q", "Q q", "X"}, {"Q", "X", "X"},
	};
	int i, j;

	explore_pairs(mpmc_states, COUNT(mpmc_states), long_run ? all : single, all);
	explore_pairs(mpmc_deaths, COUNT(mpmc_deaths), reaper, all);
	explore_pairs(mpmc_states, COUNT(mpmc_states), all, readers);
	explore_pairs(mpmc_deaths, COUNT(mpmc_deaths), all, readers);
	for (j = 0; j < COUNT(mpmc_states); j++)
		for (i = 0; i < COUNT(triples); i++)
			run_scenario(&mpmc_states[j], triples[i][0], triples[i][1], triples[i][2], other_cpus,
				     &three_actors);
	for (j = 0; j < COUNT(mpmc_deaths); j++)
		for (i = 0; i < COUNT(reaped); i++) {
			run_scenario(&mpmc_deaths[j], reaped[i][0], reaped[i][1], reaped[i][2], other_cpus, &three_actors);
			if (strcmp(reaped[i][1], "X"))
				run_scenario(&mpmc_deaths[j], reaped[i][0], reaped[i][1], reaped[i][2], same_cpu,
					     &three_actors);
		}
	explore_mpmc_programs(mpmc_states, COUNT(mpmc_states));
	explore_mpmc_programs(mpmc_deaths, COUNT(mpmc_deaths));
}

static const struct exploration mpmc_exploration = {
	.name = "mpmc",
	.kind = ADS_KIND_MPMC,
	.survivor = "L Q q q Q",
	.closing = "q q q q Q L",
	.changes = "Qq",
	.create = mpmc_create,
	.run = mpmc_run,
	.apply = mpmc_apply,
	.books = mpmc_books,
	.explore = explore_mpmc,
	.keeps_order = 1,
};
