/* SPDX-License-Identifier: MIT */
/*
 * interleave_intrusive.h - intrusive lists in the explorer, see interleave.c. Four records, a to d, and
 * two lists by the same node, so that a record is in one of them at most.
 *
 * I insert a record at its own order, J at that of a, P push it at the head, D remove it, G ask
 * whether it is in; K pop what has the order of a record, T take the first, H look at the first: all
 * of the first list. O insert a record into the other list, E remove it there. S iterate over both.
 * X reap.
 *
 * In the model, a record's number stands under its order; in the other list that is OTHER_LIST more.
 */
#define OTHER_LIST (3ull << 62) /* more than any order of the first one */

struct intrusive_record {
	__u64 number;
	struct ads_node node;
};

static struct ads_ref intrusive_other;
static __u32 intrusive_nodes[4];

static void intrusive_create(void)
{
	struct ads_ref pool = {0, 0, sizeof(struct intrusive_record), 0};
	int i, rc = ads_hashmap_create(&arena, ADS_KIND_POOL, &pool, 4, 1);

	for (i = 0; i < 4 && !rc; i++) {
		rc = ads_pool_alloc(&arena, pool, &intrusive_nodes[i]);
		intrusive_nodes[i] += (__u32)__builtin_offsetof(struct intrusive_record, node);
	}
	if (!rc)
		rc = ads_intrusive_create(&arena, &ref, pool, __builtin_offsetof(struct intrusive_record, node));
	if (!rc)
		rc = ads_intrusive_create(&arena, &intrusive_other, pool,
					  __builtin_offsetof(struct intrusive_record, node));
	if (rc)
		give_up("cannot create the lists", rc);
}

/* The number of the record with a node, 0 if there is none. */
static __u64 intrusive_number(__u32 node)
{
	__u64 i;

	for (i = 0; i < 4; i++)
		if (intrusive_nodes[i] == node)
			return i + 1;
	return 0;
}

static int intrusive_scan(struct op *op, struct ads_ref list, __u64 plus)
{
	struct ads_scan scan;
	__u32 node;
	int rc = ads_scan_start(&arena, &scan, ads_list_head(list));

	while (!rc) {
		rc = ads_intrusive_next(&arena, list, &scan, &node);
		if (rc)
			break;
		if (op->count == RECORDS)
			return ADS_DAMAGED;
		op->ids[op->count] = scan.hash + plus;
		op->values[op->count++] = intrusive_number(node);
	}
	return rc == ADS_ABSENT ? ADS_OK : rc;
}

/* op->rc comes last: until then the operation is pending, if it dies too. A push writes the order
 * that it tries to get into op->values[0] before it commits. */
static void intrusive_run(struct op *op, __u32 *object)
{
	__u32 node = op->key ? intrusive_nodes[op->key - 'a'] : 0;
	__u64 order = 0;
	int rc;

	(void)object;
	op->values[0] = 0;
	switch (op->verb) {
	case 'I':
		rc = ads_intrusive_insert(&arena, ref, op->id, node);
		break;
	case 'J':
		rc = ads_intrusive_insert(&arena, ref, 10, node);
		break;
	case 'O':
		rc = ads_intrusive_insert(&arena, intrusive_other, op->id, node);
		break;
	case 'P':
		rc = ads_intrusive_push(&arena, ref, node, &op->values[0]);
		break;
	case 'D':
		rc = ads_intrusive_remove(&arena, ref, node);
		break;
	case 'E':
		rc = ads_intrusive_remove(&arena, intrusive_other, node);
		break;
	case 'G':
		rc = ads_intrusive_contains(&arena, ref, node, &order);
		break;
	case 'K':
		rc = ads_intrusive_pop(&arena, ref, op->id, &node);
		break;
	case 'T':
		rc = ads_intrusive_pop_first(&arena, ref, &order, &node);
		break;
	case 'X':
		rc = ads_owner_reap(&arena, NULL) < 0 ? ADS_DAMAGED : ADS_OK;
		break;
	case 'H':
		rc = ads_intrusive_first(&arena, ref, &order, &node);
		break;
	default: /* S */
		op->count = 0;
		rc = intrusive_scan(op, ref, 0);
		if (!rc)
			rc = intrusive_scan(op, intrusive_other, OTHER_LIST);
		op->rc = rc;
		return;
	}
	if (op->verb == 'T' || op->verb == 'H' || op->verb == 'G')
		op->id = order;
	op->value = intrusive_number(node);
	op->rc = rc;
}

static int intrusive_find(const struct model *m, __u64 number)
{
	int i;

	for (i = 0; i < m->count; i++)
		if (m->values[i] == number)
			return i;
	return -1;
}

static int intrusive_overlap(const struct op *one, const struct op *other)
{
	return one != other && (!other->returned || other->returned > one->invoked) &&
	       (!one->returned || other->invoked < one->returned);
}

/* Whether somebody else was about to link the record, or has died at it and was not reaped. */
static int intrusive_in_hands(const struct op *op)
{
	const struct ads_node *n = (const struct ads_node *)(const void *)(image + intrusive_nodes[op->key - 'a']);
	int i, reaped = 0;

	for (i = 0; i < history_count; i++)
		reaped = reaped || (history[i].verb == 'X' && history[i].actor > ACTORS && history[i].returned < op->invoked);
	for (i = 0; i < history_count; i++)
		if (strchr("IJOP", history[i].verb) && history[i].key == op->key &&
		    intrusive_overlap(op, &history[i]) && (history[i].returned || !reaped))
			return 1;
	return !setting_up && !reaped && ads_node_is_taken(n->link) &&
	       intrusive_find(&start_model, (__u64)(op->key - 'a' + 1)) < 0;
}

/* Whether an entry of the first list was put there while `op` ran. */
static int intrusive_is_new(const struct op *op, __u64 number)
{
	int i;

	for (i = 0; i < history_count; i++)
		if (strchr("IJP", history[i].verb) && (__u64)(history[i].key - 'a' + 1) == number &&
		    intrusive_overlap(op, &history[i]))
			return 1;
	return 0;
}

static int intrusive_removes(void)
{
	int i;

	for (i = 0; i < history_count; i++)
		if (strchr("DTK", history[i].verb))
			return 1;
	return 0;
}

/* Which entry a pop of the first takes: what it says, or if it died, one that the survivor
 * misses, or the first, which somebody has put back. */
static int intrusive_first(const struct model *m, const struct op *op)
{
	const struct op *seen = NULL;
	int at, i;

	for (i = 0; i < history_count && !seen; i++)
		if (history[i].verb == 'S' && history[i].actor >= ACTORS)
			seen = &history[i];

	for (at = 0; at < m->count && m->ids[at] < OTHER_LIST; at++) {
		if (op->rc != PENDING && m->ids[at] == op->id)
			return m->values[at] == op->value ? at : -1;
		if (op->rc == PENDING) {
			for (i = 0; seen && i < seen->count; i++)
				if (seen->ids[i] == m->ids[at] && seen->values[i] == m->values[at])
					break;
			if (seen && i == seen->count)
				return at;
		}
		if (!intrusive_is_new(op, m->values[at]))
			break;
	}
	return op->rc == PENDING && m->count && m->ids[0] < OTHER_LIST ? 0 : -1;
}

static int intrusive_link(struct model *m, const struct op *op, __u64 id)
{
	__u64 number = (__u64)(op->key - 'a' + 1);
	int in = intrusive_find(m, number) >= 0;
	int taken = op->verb != 'P' && model_find(m, id) >= 0;

	if (op->rc == ADS_LINKED)
		return in || intrusive_in_hands(op);
	if (op->rc == ADS_EXISTS) /* by another */
		return taken && m->values[model_find(m, id)] != number;
	if ((op->rc != ADS_OK && op->rc != PENDING) || in || taken)
		return 0;
	if (op->verb == 'P') {
		__u64 first = m->count && m->ids[0] < OTHER_LIST ? m->ids[0] : ADS_LIST_FIRST_ORDER + 1;

		/* The first that it saw may have gone since. */
		if (id >= first || (id != first - 1 && !intrusive_removes()))
			return 0;
	}
	return model_add(m, id, number);
}

static int intrusive_apply(struct model *m, const struct op *op)
{
	int at = -1;

	switch (op->verb) {
	case 'X':
		return op->rc == ADS_OK;
	case 'I':
		return intrusive_link(m, op, op->id);
	case 'J':
		return intrusive_link(m, op, 10);
	case 'O':
		return intrusive_link(m, op, op->id + OTHER_LIST);
	case 'P':
		return (op->values[0] || op->rc != PENDING) && intrusive_link(m, op, op->values[0]);
	case 'D':
	case 'E':
	case 'G':
		at = intrusive_find(m, (__u64)(op->key - 'a' + 1));
		if (at >= 0 && (m->ids[at] >= OTHER_LIST) != (op->verb == 'E'))
			at = -1;
		break;
	case 'K':
		at = model_find(m, op->id);
		if (at >= 0 && op->rc == ADS_OK && m->values[at] != op->value)
			return 0;
		break;
	case 'T':
		at = intrusive_first(m, op);
		if (at < 0 && m->count && m->ids[0] < OTHER_LIST)
			return 0;
		break;
	default: /* H */
		at = m->count && m->ids[0] < OTHER_LIST ? 0 : -1;
		if (at >= 0 && (m->ids[0] != op->id || m->values[0] != op->value))
			return 0;
	}
	if (at < 0)
		return op->rc == ADS_ABSENT;
	if (op->verb == 'G' || op->verb == 'H')
		return op->rc == ADS_OK && m->ids[at] == op->id;
	if (op->rc != ADS_OK && op->rc != PENDING)
		return 0;
	model_remove(m, at);
	return 1;
}

/* A record is linked where the model says, and else it can be linked. */
static const char *intrusive_books(int dead)
{
	struct ads_check_report report;
	__u64 live[2] = {0, 0};
	int i;

	for (i = 0; i < last_model->count; i++)
		live[last_model->ids[i] >= OTHER_LIST]++;
	if (run_check(&report, 0) || report.errors || report.live != live[0])
		return "the check of the first list counts other records than the model";
	if (ads_collection_check(&arena, ADS_KIND_INTRUSIVE, intrusive_other, 0, &report) || report.errors ||
	    report.live != live[1] || report.leaked || ((dead || start_dead) && report.deleted))
		return "the check of the other list counts other records than the model";
	for (i = 0; i < 4; i++) {
		__u64 link = ads_node_at(&arena, intrusive_nodes[i])->link;
		int in = intrusive_find(last_model, (__u64)(i + 1)) >= 0;

		if (in != ads_node_is_taken(link) || (!in && !ads_node_is_out(link)))
			return "a record that is in no list cannot be linked";
	}
	return NULL;
}

static const struct state intrusive_states[] = {
	{"empty", "", 16, 0},
	{"one record", "Ia", 16, 0},
	{"neighbours", "Ia Ib Ic", 16, 0},
	{"in the other list", "Oa Ib", 16, 0},
	{"between others", "Oa Ob Ic", 16, 0},
	{"was linked", "Ia Ib Da", 16, 0},
	{"removed but linked", "Ia Ib Ic Da/2 S", 16, 0},
	{"two removed but linked", "Ia Ib Ic Da/2 Db/2 S", 16, 0},
	{"removed and unlinked, not out", "Ia Ib Ic Da/3 S", 16, 0},
	{"removed from the other list", "Oa Ob Ic Ea/2 S", 16, 0},
	{"claimed", "Ib Ia/2 S", 16, 0},
	{"claimed and aimed", "Ib Ia/5 S", 16, 0},
};

static void explore_intrusive(void)
{
	static const char *const firsts[] = {"Ia", "Pa", "Da", "Oa", "Ka", "T", "Ga", "H", "S", NULL};
	static const char *const others[] = {"Ia", "Pa", "Da", "Oa", "Ea", "Ka", "T",  "Jb", "Pb",
					     "Db", "Ob", "Ic", "Pd", "Dc", NULL};
	static const char *const programs_of_two[][2] = {
		{"Ia Da", "Ia Da"}, {"Ia Da", "Oa Ea"}, {"Da Ia", "S"},	   {"Da Oa", "S"},     {"Da Oa", "Gb"},
		{"Da Oa", "Db"},    {"Da Oa", "Da Ia"}, {"Da Oa", "Ja"},   {"Da Pa", "T"},     {"Da Pa", "T Pb"},
		{"T", "Ia Gb"},	    {"Da Jb", "Ja"},	{"Da Ja", "Db Ib"}, {"Da Oa Ea", "Db"}, {"Da Oa", "Dc Ic"},
		{"Da Oa", "Pd Dd"}, {"Db Ob", "Da Oa"}, {"T Ob", "T Oa"},  {"Da Pa Da", "Da"},  {"Ka Oa", "Db Ib"},
	};
	static const char *const triples[][3] = {
		{"Da", "Db", "Dc"}, {"Da", "Oa", "S"},	{"Da", "Oa", "Db"}, {"Ia", "Oa", "Da"}, {"T", "T", "Pd"},
		{"Da", "Ib", "Oa"}, {"Pa", "Pb", "Da"}, {"Da", "Db", "Oa"}, {"Da", "Jb", "Ga"}, {"Ka", "Da", "T"},
	};
	/* One who reaps and goes on, while a BPF program works on the node that a dead process named. */
	static const char *const reaped[][2] = {{"Ia", "Ia"}, {"Pa", "Oa"}, {"Da", "Da"}, {"Ka", "Da Ia"}, {"Da", "Oa"}};
	int i, j;

	explore_pairs(intrusive_states, COUNT(intrusive_states), firsts, others);
	for (i = 0; i < COUNT(programs_of_two); i++)
		for (j = 0; j < COUNT(intrusive_states); j++)
			run_scenario(&intrusive_states[j], programs_of_two[i][0], programs_of_two[i][1], NULL, same_cpu,
				     &two_actors);
	for (i = 0; i < COUNT(triples); i++)
		for (j = 0; j < 7; j++)
			run_scenario(&intrusive_states[j], triples[i][0], triples[i][1], triples[i][2], same_cpu,
				     &three_actors);
	for (i = 0; i < COUNT(reaped); i++)
		for (j = 0; j < 3; j++)
			run_scenario(&intrusive_states[j], reaped[i][0], reaped[i][1], "X Oa", same_cpu, &deadly);
}

static const struct exploration intrusive_exploration = {
	.name = "intrusive",
	.kind = ADS_KIND_INTRUSIVE,
	.survivor = "S Ga Da Ea Oa Ea Ib Db Ob Eb Pd T Dc Ic",
	.closing = "S",
	.changes = "",
	.create = intrusive_create,
	.run = intrusive_run,
	.apply = intrusive_apply,
	.books = intrusive_books,
	.explore = explore_intrusive,
};
