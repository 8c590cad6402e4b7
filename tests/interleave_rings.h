/* SPDX-License-Identifier: MIT */
/*
 * interleave_rings.h - what interleave.c explores of rings with many producers (rings.h): who has a ring.
 * What one producer and one consumer do to a ring is explored in interleave_ring.h.
 *
 * Two rings of four records. Verbs: Q push; r reserve and fill, u submit, Z discard; q0, q1 pop from a
 * ring; X reap; T the lengths of both, when nobody works on them. What is produced writes down in `count`
 * which ring it has, or tries, so that the model need not guess; a death tells it too.
 */
#define RINGS 2
#define RINGS_RECORD 24
#define RINGS_ROOM 4 /* records in a ring: each takes a quarter, so there is no padding */

static struct ads_rings many;
static struct ads_rings_draft many_drafts[ACTORS + 3];
static __u64 many_reserved[ACTORS + 3]; /* what the drafts hold */

static void rings_create(void)
{
	int rc = ads_rings_create(&arena, "r", RINGS, RINGS_ROOM * (RINGS_RECORD + 8), 0);

	if (!rc)
		rc = ads_rings_open(&arena, "r", &many);
	if (rc || many.count != RINGS)
		give_up("cannot create the rings", rc);
}

/* Which ring an operation has: 1 or 2, 0: none yet. */
static __u64 rings_which(const struct op *op)
{
	return !op->count ? 0 : (__u32)op->count == many.each[0] ? 1 : 2;
}

/* --- operations -------------------------------------------------------------------------- */

static int rings_reserve(const struct op *op, const __u64 *words, struct ads_rings_draft *draft)
{
	__u32 place;
	int rc = ads_rings_reserve(&arena, many.each, many.flags, RINGS_RECORD, draft, &place);

	(void)op;
	if (!rc)
		ads_copy_in(&arena, place, words, RINGS_RECORD);
	return rc;
}

static int rings_pop(struct op *op)
{
	__u64 words[3];
	__u32 length = 0;
	int rc = ads_ring_pop(&arena, ads_rings_ref(&many, (__u32)(op->key - '0')), words, sizeof(words), &length);

	op->value = words[0];
	return !rc && (length != RINGS_RECORD || words[1] != ~words[0] || words[2] != words[0]) ? ADS_DAMAGED : rc;
}

/* How many wait in a ring; RECORDS if what is there cannot be. */
static __u64 rings_length(__u32 ring)
{
	__u64 records;

	return ads_ring_check(&arena, ads_rings_ref(&many, ring), &records) ? RECORDS : records;
}

static void rings_run(struct op *op, __u32 *object)
{
	struct ads_rings_draft *draft = &many_drafts[op->actor];
	__u64 words[3] = {op->value, ~op->value, op->value};
	int rc = ADS_OK;

	(void)object;
	if (op == history) /* private memory begins anew with each schedule */
		memset(many_drafts, 0, sizeof(many_drafts));
	op->count = 0;
	switch (op->verb) {
	case 'Q':
		rc = ads_rings_push_to(&arena, many.each, many.flags, words, RINGS_RECORD, (__u32 *)&op->count);
		break;
	case 'r':
		rc = rings_reserve(op, words, draft);
		op->count = (int)draft->ring;
		many_reserved[op->actor] = op->value;
		break;
	case 'u':
		op->count = (int)draft->ring;
		op->value = many_reserved[op->actor];
		rc = ads_rings_submit(&arena, many.flags, draft);
		break;
	case 'Z':
		ads_rings_discard(&arena, draft);
		break;
	case 'q':
		rc = rings_pop(op);
		break;
	default: /* T */
		op->ids[0] = rings_length(0);
		op->ids[1] = rings_length(1);
	}
	op->id = rings_which(op);
	op->rc = rc; /* not before: an operation that dies has none */
}

/* --- the model --------------------------------------------------------------------------- */

/* Records of ring `which`. */
static int rings_count(const struct model *m, __u64 which)
{
	int i, count = 0;

	for (i = 0; i < m->count; i++)
		count += m->ids[i] == which;
	return count;
}

/* Rings that others may have, for ever or while `op` ran. After the reaping nobody has one. */
static int rings_of_others(const struct op *op)
{
	int i, count = start_dead;

	if (op->actor >= ACTORS)
		return 0;
	for (i = 0; i < history_count; i++) {
		const struct op *other = &history[i];

		if (other->actor == op->actor || !strchr("Qru", other->verb) || other->invoked > op->returned)
			continue;
		count += other->verb == 'r' || !other->returned || other->returned > op->invoked;
	}
	for (i = 0; i < history_count && history[i].verb != 'r'; i++)
		;
	/* One may push to the other ring, and find that one taken or free, while it has a reservation. */
	return count + (i < history_count);
}

/* Records that died before anybody saw them take room all the same, until the next push. */
static int rings_unseen(__u64 which)
{
	int i, count = 0;

	for (i = 0; i < history_count; i++)
		count += history[i].rc == PENDING && strchr("Qu", history[i].verb) && rings_which(&history[i]) == which;
	return count;
}

static int rings_add(struct model *m, const struct op *op)
{
	__u64 which = rings_which(op);
	int pending = op->rc == PENDING;

	if (op->rc == ADS_FULL)
		return rings_count(m, which) + rings_unseen(which) >= RINGS_ROOM || rings_of_others(op) >= RINGS;
	return (pending || !op->rc) && which && rings_count(m, which) < RINGS_ROOM && model_add(m, which, op->value);
}

static int rings_apply(struct model *m, const struct op *op)
{
	int i;

	switch (op->verb) {
	case 'Q':
		return rings_add(m, op);
	case 'r':
		if (op->rc != ADS_FULL)
			return 1;
		for (i = 1; i <= RINGS; i++)
			if (rings_count(m, (__u64)i) + rings_unseen((__u64)i) >= RINGS_ROOM)
				return 1;
		return rings_of_others(op) >= RINGS;
	case 'u':
		return op->rc == ADS_NOT_RESERVED ? !rings_which(op) : rings_add(m, op);
	case 'q':
		i = model_find(m, (__u64)(op->key - '0' + 1));
		if (i < 0)
			return op->rc == ADS_ABSENT;
		if (op->rc != PENDING && (op->rc || op->value != m->values[i]))
			return 0;
		model_remove(m, i);
		return 1;
	case 'T':
		return op->ids[0] == (__u64)rings_count(m, 1) && op->ids[1] == (__u64)rings_count(m, 2);
	default:
		return op->rc == PENDING || !op->rc;
	}
}

/* Nobody produces any more. */
static const char *rings_books(int dead)
{
	(void)dead;
	if (rings_length(0) == RECORDS || rings_length(1) == RECORDS)
		return "a ring is damaged";
	return ads_rings_taken(&arena, &many) ? "a ring is still taken" : NULL;
}

/* --- scenarios --------------------------------------------------------------------------- */

/* Writes of a push: 1 takes the ring, after one more for each that is taken; 2 to 4 the record, 5 its word,
 * 6 commits, 7 publishes, 8 gives the ring back. */
static const struct state rings_states[] = {
	{"empty", "", RINGS_ROOM, 0},
	{"one record", "Q T", RINGS_ROOM, 0},
	{"one record in each", "Q @1 Q T", RINGS_ROOM, 0},
	{"one below full", "Q Q Q T", RINGS_ROOM, 0},
	{"full", "Q Q Q Q T", RINGS_ROOM, 0},
	{"about to wrap", "Q Q Q q0 q0 q0 T", RINGS_ROOM, 0},
	{"dead before it has a ring", "Q/1 T", RINGS_ROOM, 0},
	{"dead with a ring", "Q/2 T", RINGS_ROOM, 0},
	{"dead with a record in its hands", "Q Q/5 T", RINGS_ROOM, 0},
	{"dead before its commit", "Q Q/6 T", RINGS_ROOM, 0},
	{"dead with its record published", "Q Q/8 T", RINGS_ROOM, 0},
	{"dead with both rings", "Q/2 Q/3 T", RINGS_ROOM, 0},
	{"dead with both rings, records published", "Q/8 Q/9 T", RINGS_ROOM, 0},
	{"dead with a reservation", "r/4 T", RINGS_ROOM, 0},
};

static void explore_many_rings(void)
{
	static const char *const producers[] = {"Q", "Q Q", "r u", "r Z", "r Q u", "u Q", NULL};
	static const char *const others[] = {"Q", "Q Q", "r u", "q0", "q0 q1", "q0 q0", "X", NULL};
	static const char *const triples[][3] = {
		{"Q", "Q", "q0"}, {"Q", "Q", "Q"}, {"Q", "Q", "X"}, {"r u", "Q", "q0"}, {"Q", "Q Q", "q0 q1"}, {"Q", "X", "X"},
	};
	int i, j;

	explore_pairs(rings_states, COUNT(rings_states), producers, others);
	for (j = 0; j < COUNT(rings_states); j++)
		for (i = 0; i < COUNT(triples); i++) {
			run_scenario(&rings_states[j], triples[i][0], triples[i][1], triples[i][2], same_cpu, &three_actors);
			run_scenario(&rings_states[j], triples[i][0], triples[i][1], triples[i][2], other_cpus, &three_actors);
			/* Two BPF programs, one of which nests in the other, or a reaper stands beside. */
			run_programs(&rings_states[j], triples[i][0], triples[i][1], triples[i][2], same_cpu, &three_actors, 3);
		}
}

static const struct exploration rings_exploration = {
	.name = "rings",
	.kind = 0,
	.survivor = "T Q Q q0 q1 r u u r Z T",
	.closing = "T q0 q0 q0 q0 q1 q1 q1 q1 T",
	.changes = "",
	.create = rings_create,
	.run = rings_run,
	.apply = rings_apply,
	.books = rings_books,
	.explore = explore_many_rings,
	.keeps_order = 1,
};
