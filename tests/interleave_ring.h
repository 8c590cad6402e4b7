/* SPDX-License-Identifier: MIT */
/*
 * interleave_ring.h - what interleave.c explores of byte rings, in both modes.
 *
 * Q push, A append, U publish, r reserve and fill, C commit, u submit, Z discard: with a record
 * of one to three words, a to c. q pop; p peek, n next, e release; S read all without taking.
 * In setups: V1 the positions start at 2^64 - 8; T what the dead did is read from memory.
 *
 * A push has up to three moments that others can tell apart: it drops what is oldest, commits,
 * and publishes. So the history gets an operation for each, x and k, that may happen while the
 * push runs, and has a place in the order or not; for one that died it says how far it came.
 */
#define RING_BYTES 64
#define RING_STEPS 5 /* moments in which one operation makes room */

enum { HEAD, TAIL, COMMITTED, TICKET, PRODUCER, DRAFT_AT, DRAFT_VALUE, BATCH_AT, BATCH_END, DROPPED, DONE, STEPS_OF, STEPS,
       COMMITTED_BY, HIDDEN, HIDDEN_AT, HIDDEN_VALUE = HIDDEN_AT + 4 };
ADS_STATIC_ASSERT(HIDDEN_VALUE + 4 <= MORE, "the model has room");

static __u32 ring_flags;
static __u64 ring_start; /* positions are told from here, so that they grow */
static struct ads_ring_draft drafts[ACTORS + 3];
static struct ads_ring_cursor batches[ACTORS + 3];

static void ring_create(void)
{
	int rc;

	ref.key_size = ref.value_size = 0;
	ref.flags = ring_flags;
	rc = ads_ring_create(&arena, &ref, RING_BYTES);
	if (rc)
		give_up("cannot create the ring", rc);
	ring_start = 0;
}

static void ring_create_plain(void)
{
	ring_flags = 0;
	ring_create();
}

static void ring_create_overwriting(void)
{
	ring_flags = ADS_OVERWRITE;
	ring_create();
}

/* --- operations -------------------------------------------------------------------------- */

static __u32 words_of(__u64 value)
{
	return (__u32)value & 3;
}

static void ring_fill(__u64 *words, __u64 value)
{
	words[0] = words[2] = value;
	words[1] = ~value;
}

static int ring_judge(const __u64 *words, __u32 length, __u64 *value)
{
	__u64 wanted[3];

	*value = words[0];
	ring_fill(wanted, *value);
	return length != 8 * words_of(*value) || memcmp(words, wanted, length) ? ADS_DAMAGED : ADS_OK;
}

/* A moment that the operation may have. */
static void ring_moment(const struct op *of, char verb, __u64 step)
{
	struct op *moment = &history[history_count];

	if (history_count == HISTORY) {
		problem = "the history is too long";
		return;
	}
	history_count++;
	memset(moment, 0, __builtin_offsetof(struct op, ids));
	*moment = (struct op){.verb = verb, .key = of->key, .actor = of->actor, .id = of->id, .value = of->value,
			      .rc = PENDING, .count = (int)step, .invoked = of->invoked};
}

static void ring_read_all(struct op *op)
{
	struct ads_ring_cursor c;
	__u64 words[3];
	__u32 length = 0;
	int rc = ads_ring_walk(&arena, ref, &c);

	for (op->count = 0; !rc; op->count++) {
		rc = ads_ring_read(&arena, ref, &c, words, sizeof(words), &length);
		if (rc)
			break;
		if (op->count == RECORDS || ring_judge(words, length, &op->values[op->count])) {
			rc = ADS_DAMAGED;
			break;
		}
		op->ids[op->count] = c.at - 8 - length - ring_start;
	}
	op->rc = rc == ADS_ABSENT ? ADS_OK : rc;
}

/* What is in memory when nobody works on it. */
static void ring_read_positions(struct op *op)
{
	const struct ads_ring *ring = ads_ring_of(&arena, ref);

	op->ids[0] = (ring->head & ~(ring_flags ? ADS_RING_DROPS : 0)) - ring_start;
	op->ids[1] = ring->tail - ring_start;
	op->ids[2] = ring->committed - ring_start;
	op->ids[3] = ads_ring_dropped(&arena, ref);
	op->rc = ADS_OK;
}

static void ring_set_positions(struct op *op)
{
	struct ads_ring *ring = ads_ring_of(&arena, ref);

	ring_start = 0 - 8 * (__u64)(op->key - '0');
	ring->head = ring->tail = ring->committed = ring->head_seen = ring->tail_seen = ring_start;
	op->rc = ADS_OK;
}

static int ring_reserve(__u64 value, struct ads_ring_draft *draft)
{
	__u64 words[3];
	__u32 place;
	int rc = ads_ring_reserve(&arena, ref, 8 * words_of(value), draft, &place);

	ring_fill(words, value);
	if (!rc)
		ads_copy_in(&arena, place, words, 8 * words_of(value));
	return rc;
}

static int ring_next(struct op *op, struct ads_ring_cursor *batch)
{
	__u64 words[3];
	__u32 place, length = 0;
	int rc = ads_ring_next(&arena, ref, batch, &place, &length);

	if (rc)
		return rc;
	if (length > sizeof(words))
		return ADS_DAMAGED;
	ads_copy_out(&arena, words, place, length);
	op->id = place - 8;
	return ring_judge(words, length, &op->value);
}

static int ring_pop(struct op *op)
{
	__u64 words[3];
	__u32 length = 0;
	int rc = ads_ring_pop(&arena, ref, words, sizeof(words), &length);

	return rc ? rc : ring_judge(words, length, &op->value);
}

/* Grows with each operation, also from the setup to what follows. */
static __u64 ring_ordinal(void)
{
	return (__u64)(history_count + (setting_up ? 0 : HISTORY));
}

static void ring_run(struct op *op, __u32 *object)
{
	struct ads_ring_draft *draft = &drafts[op->actor];
	struct ads_ring_cursor *batch = &batches[op->actor];
	struct op *hidden = NULL;
	__u64 words[3], step;

	(void)object;
	if (op == history) { /* private memory begins anew with each schedule */
		memset(drafts, 0, sizeof(drafts));
		memset(batches, 0, sizeof(batches));
	}
	if (strchr("QAr", op->verb)) {
		op->value = op->value << 2 | (__u64)(op->key - 'a' + 1);
		op->id = ring_ordinal();
		for (step = 0; ring_flags && step < RING_STEPS; step++)
			ring_moment(op, 'x', step);
	}
	if (op->verb == 'u')
		op->id = ring_ordinal();
	if (op->verb == 'Q' || op->verb == 'u') {
		hidden = &history[history_count];
		ring_moment(op, 'k', 0);
	}
	ring_fill(words, op->value);
	switch (op->verb) {
	case 'Q':
		op->rc = ads_ring_push(&arena, ref, words, 8 * words_of(op->value));
		break;
	case 'A':
		op->rc = ads_ring_append(&arena, ref, words, 8 * words_of(op->value), 0);
		break;
	case 'r':
		op->rc = ring_reserve(op->value, draft);
		break;
	case 'C':
		op->rc = ads_ring_commit(&arena, ref, draft);
		break;
	case 'u':
		op->rc = ads_ring_submit(&arena, ref, draft);
		break;
	case 'Z':
		ads_ring_discard(draft);
		op->rc = ADS_OK;
		break;
	case 'X': /* a ring has nothing that a dead thread could have had in hand */
		op->rc = ADS_OK;
		break;
	case 'U':
		op->rc = ads_ring_publish(&arena, ref);
		break;
	case 'q':
		op->rc = ring_pop(op);
		break;
	case 'p':
		op->rc = ads_ring_peek(&arena, ref, batch);
		break;
	case 'n':
		op->rc = ring_next(op, batch);
		break;
	case 'e':
		op->rc = ads_ring_release(&arena, ref, batch);
		break;
	case 'S':
		ring_read_all(op);
		break;
	case 'V':
		ring_set_positions(op);
		break;
	default:
		ring_read_positions(op);
	}
	if (hidden) /* it has returned: it has published too */
		hidden->id = 0;
}

/* --- the model --------------------------------------------------------------------------- */

static __u64 record_bytes(__u64 value)
{
	return 8 + 8 * words_of(value);
}

/* Where a record would begin now. */
static __u64 model_place(const struct model *m, __u64 value)
{
	__u64 committed = m->more[COMMITTED], left = RING_BYTES - ((committed + ring_start) & (RING_BYTES - 1));

	return record_bytes(value) > left ? committed + left : committed;
}

static int model_has_room(const struct model *m, __u64 value)
{
	return model_place(m, value) + record_bytes(value) - m->more[HEAD] <= RING_BYTES;
}

static void model_commit(struct model *m, __u64 at, __u64 value)
{
	__u64 i = m->more[HIDDEN]++ & 3;

	m->more[HIDDEN_AT + i] = at;
	m->more[HIDDEN_VALUE + i] = value;
	m->more[COMMITTED] = at + record_bytes(value);
}

static int model_publish(struct model *m)
{
	__u64 i;
	int fits = 1;

	for (i = 0; i < m->more[HIDDEN]; i++)
		fits = fits && model_add(m, m->more[HIDDEN_AT + i], m->more[HIDDEN_VALUE + i]);
	m->more[HIDDEN] = 0;
	m->more[TAIL] = m->more[COMMITTED];
	return fits;
}

static void model_take(struct model *m)
{
	m->more[HEAD] = m->ids[0] + record_bytes(m->values[0]);
	model_remove(m, 0);
}

/* One of the moments in which an operation makes room. */
static int model_make_room(struct model *m, const struct op *op)
{
	__u64 done = m->more[STEPS_OF] == op->id ? m->more[STEPS] : 0;

	if (m->more[DONE] >= op->id || done != (__u64)op->count || model_has_room(m, op->value))
		return 0;
	m->more[STEPS_OF] = op->id;
	m->more[STEPS] = done + 1;
	if (!m->count)
		return model_publish(m);
	if (m->ids[0] != m->more[HEAD]) { /* padding */
		m->more[HEAD] = m->ids[0];
		return 1;
	}
	model_take(m);
	m->more[DROPPED]++;
	return 1;
}

static int model_may_commit(const struct model *m, const struct op *op)
{
	return m->more[PRODUCER] == (__u64)op->actor && m->more[TICKET] == m->more[COMMITTED] + 1;
}

/* What push and submit do but for publishing; *refused: they do not, with the result that is seen. */
static int model_append(struct model *m, const struct op *op, int *refused)
{
	int submits = op->verb == 'u' || op->verb == 'C' || (op->verb == 'k' && !op->key);

	*refused = 0;
	if (submits && !model_may_commit(m, op)) {
		*refused = op->rc == ADS_NOT_RESERVED;
		return 0;
	}
	if (!submits && !model_has_room(m, op->value)) {
		*refused = !ring_flags && op->rc == ADS_FULL;
		return 0;
	}
	if (op->rc != PENDING && op->rc)
		return 0;
	model_commit(m, submits ? m->more[DRAFT_AT] : model_place(m, op->value),
		     submits ? m->more[DRAFT_VALUE] : op->value);
	return 1;
}

static int ring_apply_producer(struct model *m, const struct op *op)
{
	int pending = op->rc == PENDING, refused;

	switch (op->verb) {
	case 'x':
		return model_make_room(m, op);
	case 'k': /* committed by an operation that died before it published */
		if (!op->id || m->more[DONE] >= op->id || m->more[COMMITTED_BY] == op->id || !model_append(m, op, &refused))
			return 0;
		m->more[COMMITTED_BY] = op->id;
		return 1;
	case 'Q':
	case 'u':
		if (m->more[COMMITTED_BY] != op->id && !model_append(m, op, &refused))
			return refused;
		m->more[DONE] = op->id;
		return model_publish(m);
	case 'A':
	case 'C':
		if (!model_append(m, op, &refused))
			return refused;
		m->more[DONE] = op->verb == 'A' ? op->id : m->more[DONE];
		return 1;
	case 'r':
		if (pending || !model_has_room(m, op->value))
			return !pending && !ring_flags && op->rc == ADS_FULL;
		m->more[PRODUCER] = (__u64)op->actor;
		m->more[TICKET] = m->more[COMMITTED] + 1;
		m->more[DRAFT_AT] = model_place(m, op->value);
		m->more[DRAFT_VALUE] = op->value;
		m->more[DONE] = op->id;
		return op->rc == ADS_OK;
	case 'Z':
		if (m->more[PRODUCER] == (__u64)op->actor)
			m->more[TICKET] = 0;
		return !pending;
	default: /* U */
		return (pending || !op->rc) && model_publish(m);
	}
}

static int ring_apply_consumer(struct model *m, const struct op *op)
{
	int pending = op->rc == PENDING, i;

	switch (op->verb) {
	case 'q':
		if (!m->count)
			return op->rc == ADS_ABSENT;
		if (!pending && (op->rc || op->value != m->values[0]))
			return 0;
		model_take(m);
		return 1;
	case 'p':
		if (ring_flags)
			return op->rc == ADS_INVALID;
		m->more[BATCH_AT] = m->more[HEAD];
		m->more[BATCH_END] = m->more[TAIL];
		return op->rc == (m->count ? ADS_OK : ADS_ABSENT);
	case 'n':
		for (i = 0; i < m->count && m->ids[i] < m->more[BATCH_AT]; i++)
			;
		if (i == m->count || m->ids[i] >= m->more[BATCH_END])
			return op->rc == ADS_ABSENT;
		m->more[BATCH_AT] = m->ids[i] + record_bytes(m->values[i]);
		return op->rc == ADS_OK && op->value == m->values[i];
	default: /* e */
		if (ring_flags || m->more[BATCH_AT] < m->more[HEAD])
			return op->rc == ADS_INVALID;
		if (!pending && op->rc)
			return 0;
		while (m->count && m->ids[0] < m->more[BATCH_AT])
			model_take(m);
		m->more[HEAD] = m->more[BATCH_AT];
		return 1;
	}
}

static int ring_apply(struct model *m, const struct op *op)
{
	if (op->verb == 'V' || op->verb == 'X')
		return 1;
	if (op->verb == 'T')
		return op->ids[0] == m->more[HEAD] && op->ids[1] == m->more[TAIL] && op->ids[2] == m->more[COMMITTED] &&
		       op->ids[3] == m->more[DROPPED];
	return strchr("qpne", op->verb) ? ring_apply_consumer(m, op) : ring_apply_producer(m, op);
}

/* --- scenarios --------------------------------------------------------------------------- */

static const struct state ring_states[] = {
	{"empty", "", RING_BYTES, 0},
	{"one record", "Qb", RING_BYTES, 0},
	{"full", "Qb Qb", RING_BYTES, 0},
	{"full to the last byte", "Qc Qc", RING_BYTES, 0},
	{"many small", "Qa Qa Qa", RING_BYTES, 0},
	{"padding at the end", "Qb Qb q", RING_BYTES, 0},
	{"empty before padding", "Qb Qb q q", RING_BYTES, 0},
	{"padding in the middle", "Qb Qb q Qb", RING_BYTES, 0},
	{"padding is oldest", "Qb Qb q Qb q", RING_BYTES, 0},
	{"wrapped", "Qc Qc q Qc", RING_BYTES, 0},
	{"positions about to wrap", "V1", RING_BYTES, 0},
	{"full across the end of positions", "V5 Qb Qa", RING_BYTES, 0},
	{"committed, not published", "Qa Ab", RING_BYTES, 0},
	{"dead before its word", "Qa Qb/3 T", RING_BYTES, 0},
	{"dead before its commit", "Qa Qb/4 T", RING_BYTES, 0},
	{"dead before it published", "Qa Qb/5 T", RING_BYTES, 0},
	{"dead before it published, padding", "Qb Qb q Qb/7 T", RING_BYTES, 0},
	{"a consumer died", "Qb q/2 T", RING_BYTES, 0},
};

/* Of overwriting rings only. */
static const struct state ring_drop_states[] = {
	{"dead before its drop", "Qc Qc Qc/2 T", RING_BYTES, 0},
	{"dead before it counted", "Qc Qc Qc/3 T", RING_BYTES, 0},
	{"dead after it counted", "Qc Qc Qc/4 T", RING_BYTES, 0},
	{"dead behind padding", "Qb Qb Qb Qb/3 T", RING_BYTES, 0},
	{"all of it not published", "Ac Ac", RING_BYTES, 0},
	{"many drops", "Qa Qa Qa Qa Qa Qa", RING_BYTES, 0},
};

static void explore_ring_from(const struct state *from)
{
	static const char *const producers[] = {"Qa", "Qb", "Qc", "Qb Qb", "Ab Qa", "Ab Ab U", "rb C U", "ra u", "rb Z Qa",
						"C u", "ra Qb C", NULL};
	static const char *const consumers[] = {"q", "q q", "p n e", "p n n e", "p q e", "q p n e", NULL};
	/* Overwriting, each operation has many moments: fewer programs, unless there is time. */
	static const char *const fewer[] = {"Qa", "Qc", "Qb Qb", "Ab Qa", "ra u", NULL};
	const char *const *p, *const *c;

	for (p = ring_flags && !long_run ? fewer : producers; *p; p++) {
		for (c = consumers; *c && !(ring_flags && **c == 'p'); c++)
			run_scenario(from, *p, *c, NULL, same_cpu, &two_actors);
		run_scenario(from, *p, "S", NULL, same_cpu, &two_actors);
	}
	for (c = consumers; *c && !(ring_flags && **c == 'p'); c++)
		run_scenario(from, *c, "S", NULL, same_cpu, &two_actors);
	run_scenario(from, "Qb", "q", "S", same_cpu, &three_actors);
	if (ring_flags && !long_run)
		return;
	run_scenario(from, "Qb Qb Qb", ring_flags ? "q q q" : "p n n e q", NULL, same_cpu, &two_actors);
	run_scenario(from, "Qc Qa", "q q", "S", same_cpu, &three_actors);
}

static void explore_rings(void)
{
	int i;

	for (i = 0; i < COUNT(ring_states); i++)
		explore_ring_from(&ring_states[i]);
}

static void explore_plain_rings(void)
{
	ring_flags = 0;
	explore_rings();
}

static void explore_overwriting_rings(void)
{
	int i;

	ring_flags = ADS_OVERWRITE;
	explore_rings();
	for (i = 0; i < COUNT(ring_drop_states); i++)
		explore_ring_from(&ring_drop_states[i]);
}

static const struct exploration ring_plain = {
	.name = "ring-plain",
	.kind = ADS_KIND_RING,
	.survivor = "q Qa q C rb u S Qb q q",
	.closing = "S q q q q q q T",
	.changes = "",
	.create = ring_create_plain,
	.run = ring_run,
	.apply = ring_apply,
	.explore = explore_plain_rings,
	.keeps_order = 1,
};

static const struct exploration ring_overwriting = {
	.name = "ring-overwrite",
	.kind = ADS_KIND_RING,
	.survivor = "q Qa q C rb u S Qb q q",
	.closing = "S q q q q q q T",
	.changes = "",
	.create = ring_create_overwriting,
	.run = ring_run,
	.apply = ring_apply,
	.explore = explore_overwriting_rings,
	.keeps_order = 1,
};
