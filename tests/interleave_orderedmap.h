/* SPDX-License-Identifier: MIT */
/*
 * interleave_orderedmap.h - ordered maps for interleave.c. Verbs beyond those of a map:
 *
 *	M	pop the first		Vx	lower bound of key x
 *
 * Keys a and d have towers of one level, c of two, b none; see create_orderedmap().
 */

static void create_orderedmap(void)
{
	static const __u32 heights[] = {1, 0, 2, 1};
	int rc, i;
	__u64 seed;

	ref.flags = 0;
	rc = ads_orderedmap_create(&arena, &ref, state->capacity);
	if (rc)
		give_up("cannot create the ordered map", rc);
	for (seed = 1, i = 0; i < 4; seed++) {
		ads_at(&arena, struct ads_header, ref.offset)->seed = seed;
		for (i = 0; i < 4; i++)
			if (ads_orderedmap_height(ads_orderedmap_hash(&arena, ref, (__u64)(10 + i), 0)) != heights[i])
				break;
	}
	/* The other seed decides nothing: the same in every run. */
	ads_at(&arena, struct ads_header, ads_orderedmap_index(ref).offset)->seed = 1;
}

static void scan_orderedmap(struct op *op)
{
	struct ads_scan scan;
	__u64 value[2];
	__u32 entry;
	int rc = ads_orderedmap_scan(&arena, ref, &scan);

	for (op->count = 0; !rc; op->count++) {
		rc = ads_orderedmap_next(&arena, ref, ads_orderedmap_seek, &scan, 0, 0, value, &entry);
		if (rc)
			break;
		if (op->count == RECORDS || value[1] != ~value[0]) {
			rc = ADS_DAMAGED;
			break;
		}
		op->ids[op->count] = scan.hash;
		op->values[op->count] = value[0];
	}
	op->rc = rc == ADS_ABSENT ? ADS_OK : rc;
}

static int lower_bound_of(struct op *op, __u64 order, __u64 *value)
{
	struct ads_scan scan;
	__u32 entry;
	int rc = ads_orderedmap_scan_from(&arena, ref, ads_orderedmap_seek, &scan, order, 0, 0);

	if (!rc)
		rc = ads_orderedmap_next(&arena, ref, ads_orderedmap_seek, &scan, 0, 0, value, &entry);
	op->id = rc ? 0 : scan.hash;
	return rc;
}

static void run_orderedmap(struct op *op, __u32 *object)
{
	__u64 value[2] = {op->value, ~op->value};
	__u64 order = op->key ? order_of(op->key) : 0;
	__u32 entry = 0;
	int rc;

	(void)object;
	switch (op->verb) {
	case 'S':
		scan_orderedmap(op);
		return;
	case 'G':
		rc = ads_orderedmap_get(&arena, ref, ads_orderedmap_seek, order, 0, value);
		break;
	case 'D':
		rc = ads_orderedmap_pop(&arena, ref, ads_orderedmap_seek, order, 0, 0);
		break;
	case 'M':
		rc = ads_orderedmap_pop_first(&arena, ref, ads_orderedmap_seek, &op->id, 0, value);
		break;
	case 'V':
		rc = lower_bound_of(op, order, value);
		break;
	default:
		rc = ads_orderedmap_update(&arena, ref, ads_orderedmap_seek, order, 0, value,
					   op->verb == 'I'   ? ADS_INSERT
					   : op->verb == 'R' ? ADS_REPLACE
							     : ADS_ANY,
					   &entry);
	}
	if (strchr("GMV", op->verb)) {
		op->value = value[0];
		if (!rc && value[1] != ~value[0])
			rc = ADS_DAMAGED;
	}
	op->rc = rc;
}

static int apply_orderedmap(struct model *m, const struct op *op)
{
	int at, i;

	if (op->verb == 'V') {
		for (at = 0; at < m->count && m->ids[at] < (__u64)(10 + op->key - 'a'); at++)
			;
		if (op->rc == PENDING)
			return 0;
		return at == m->count ? op->rc == ADS_ABSENT
				      : op->rc == ADS_OK && m->ids[at] == op->id && m->values[at] == op->value;
	}
	if (op->verb != 'M')
		return -1;
	if (op->rc == ADS_ABSENT)
		return !m->count;
	at = op->id ? model_find(m, op->id) : -1;
	if (at < 0 || (op->rc != PENDING && (op->rc || m->values[at] != op->value)))
		return 0;
	/* It was the lowest when it was found; lower ones have come since. */
	for (i = 0; i < at; i++)
		if (!inserted_meanwhile(op, m->ids[i]))
			return 0;
	model_remove(m, at);
	return 1;
}

static const struct state orderedmap_states[] = {
	{"empty", "", 16, 0},
	{"one entry", "Ia", 16, 0},
	{"one without a tower", "Ib", 16, 0},
	{"neighbours", "Ia Ic", 16, 0},
	{"all of them", "Ia Ib Ic Id", 16, 0},
	{"free entries", "Ia Ib Ic Id Da Dc", 16, 0},
	{"full", "Ia Ic", 2, 0},
	{"deleted but linked", "Ia Ic Id Dc/2", 16, 0},
	{"deleted, its hints are not", "Ia Ic Id Dc/8", 16, 0},
	{"deleted, a tower begun to go", "Ia Ic Id Dc/10", 16, 0},
	{"deleted, a hint leads to what is free", "Ia Ib Ic Db/7", 16, 0},
	{"stored, its hints are not", "Ia Id Ic/9", 16, 0},
	{"replaced, its hints are not", "Ia Ic Id Rc/13", 16, 0},
	{"no memory for towers", "Ib M0", 18, 2},
};

static void explore_orderedmap(void)
{
	static const char *const firsts[] = {"Ga", "Ia", "Ra", "Ua", "Da", "M", "Vb", "S", NULL};
	static const char *const others[] = {"Ia", "Ra", "Ua", "Da", "Ib", "Db", "Ic", "Rc", "Dc",
					     "Gd", "Id", "Dd", "M",  "Va", "X",	 NULL};
	static const char *const programs_of_two[][2] = {
		{"Da", "S Ga"}, {"Ib", "Gb S"}, {"Ga", "Da Ia"}, {"Gd", "Dc Ic"}, {"Gd", "Dc Ib Ic"}, {"Id", "Dc Ia"}, {"Dd", "Dc Ib"}, {"Vb", "Dc Ib"},
		{"M", "Ia Da"}, {"M M", "M"}, {"M", "Da Ia"}, {"S", "Dc Ib"}, {"S", "Da Ic"}, {"Rd", "Dc Id"},
		{"Dd", "Rc Dc"}, {"Ic", "Dc Ic"}, {"Uc", "Uc Dc"}, {"Ud", "Ra Da Ib"}, {"X", "Ib Dd"},
	};
	static const char *const triples[][3] = {
		{"M", "M", "Ia"}, {"Dc", "Id", "Gd"}, {"Ic", "Dc", "Ud"}, {"Da", "Dc", "Dd"}, {"X", "Dd", "Gd"},
	};
	static const char *const nested_in[] = {"full", "free entries", "deleted but linked", "deleted, its hints are not",
						"replaced, its hints are not", NULL};
	static const char *const nested_firsts[] = {"Ra", "Ua", "Da", "M", NULL};
	static const char *const nested_others[] = {"Ra", "Ua", "Da", "M", "Ib", "Rc", "Uc", "Dc", NULL};
	static const struct limits fewer = {2, 1, 1}, fewer_of_three = {1, 1, 0};
	struct limits two = two_actors, three = three_actors;
	int i, j;

	if (!long_run) { /* its operations are long: one preemption more is for the long run */
		two_actors = fewer;
		three_actors = fewer_of_three;
	}
	explore_nested(orderedmap_states, COUNT(orderedmap_states), nested_in, nested_firsts, nested_others);
	for (i = 0; i < COUNT(programs_of_two); i++)
		for (j = 0; j < COUNT(orderedmap_states); j++)
			run_scenario(&orderedmap_states[j], programs_of_two[i][0], programs_of_two[i][1], NULL, same_cpu,
				     &two_actors);
	explore_pairs(orderedmap_states, COUNT(orderedmap_states), firsts, others);
	for (i = 0; i < COUNT(triples); i++)
		for (j = 0; j < COUNT(orderedmap_states); j++)
			run_scenario(&orderedmap_states[j], triples[i][0], triples[i][1], triples[i][2], same_cpu,
				     &three_actors);
	two_actors = two;
	three_actors = three;
}

static const struct exploration orderedmap_exploration = {
	.name = "orderedmap",
	.kind = ADS_KIND_ORDEREDMAP,
	.survivor = "Ga Gb Gc Gd Ua Ga Da Ga Ib Rc Dc M",
	.closing = "S",
	.changes = "IRUDM",
	.create = create_orderedmap,
	.run = run_orderedmap,
	.apply = apply_orderedmap,
	.explore = explore_orderedmap,
};
