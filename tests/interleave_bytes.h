/* SPDX-License-Identifier: MIT */
/*
 * interleave_bytes.h - ordered maps of byte strings, and tables of hints that grow, for interleave.c. Verbs are those of
 * interleave_orderedmap.h, and W doubles the table of hints.
 *
 * The keys of bytes_exploration are 12 bytes, the first 8 of which are the same: their order decides nothing, and
 * every step of a walk compares whole keys.
 */
#define BYTES_KEY 12

static const char byte_keys[4][BYTES_KEY + 1] = {"as before: a", "as before: b", "as before: c", "as before: d"};

static const void *byte_key(char key)
{
	return byte_keys[(key - 'a') & 3];
}

static __u64 id_of_bytes(const void *key)
{
	int i;

	for (i = 0; i < 4; i++)
		if (!memcmp(key, byte_keys[i], BYTES_KEY))
			return (__u64)(10 + i);
	return 0;
}

static void create_bytes(void)
{
	static const __u32 heights[] = {1, 0, 2, 1};
	struct ads_header *h;
	__u64 order = ads_order_of_bytes(byte_key('a'), BYTES_KEY);
	int rc, i;

	ref.flags = ADS_BYTES;
	ref.key_size = BYTES_KEY;
	rc = ads_orderedmap_create(&arena, &ref, state->capacity);
	if (rc)
		give_up("cannot create the ordered map", rc);
	h = ads_at(&arena, struct ads_header, ref.offset);
	for (h->seed = 1, i = 0; i < 4; h->seed += i < 4)
		for (i = 0; i < 4; i++)
			if (ads_orderedmap_height(ads_orderedmap_hash(&arena, ref, order, byte_key((char)('a' + i)))) !=
			    heights[i])
				break;
	/* The other seed decides nothing: the same in every run. */
	ads_at(&arena, struct ads_header, ads_orderedmap_index(ref).offset)->seed = 1;
}

static void scan_bytes(struct op *op)
{
	struct ads_scan scan;
	char last[16] = {0}, key[16] = {0};
	__u64 value[2];
	__u32 entry;
	int rc = ads_orderedmap_scan(&arena, ref, &scan);

	for (op->count = 0; !rc; op->count++) {
		rc = ads_orderedmap_next(&arena, ref, ads_orderedmap_seek, &scan, last, key, value, &entry);
		if (rc)
			break;
		if (op->count == RECORDS || value[1] != ~value[0]) {
			rc = ADS_DAMAGED;
			break;
		}
		memcpy(last, key, sizeof(last));
		op->ids[op->count] = id_of_bytes(key);
		op->values[op->count] = value[0];
	}
	op->rc = rc == ADS_ABSENT ? ADS_OK : rc;
}

static void run_bytes(struct op *op, __u32 *object)
{
	const void *key = byte_key(op->key ? op->key : 'a');
	__u64 order = ads_order_of_bytes(key, BYTES_KEY);
	__u64 value[2] = {op->value, ~op->value};
	__u32 entry = 0;
	int rc;

	(void)object;
	switch (op->verb) {
	case 'S':
		scan_bytes(op);
		return;
	case 'G':
		rc = ads_orderedmap_get(&arena, ref, ads_orderedmap_seek, order, key, value);
		break;
	case 'D':
		rc = ads_orderedmap_pop(&arena, ref, ads_orderedmap_seek, order, key, 0);
		break;
	case 'M': /* the key is in op->ids before it is deleted: known of one who dies */
		op->ids[0] = op->ids[1] = 0;
		rc = ads_orderedmap_pop_first(&arena, ref, ads_orderedmap_seek, &order, op->ids, value);
		op->id = id_of_bytes(op->ids);
		break;
	default:
		rc = ads_orderedmap_update(&arena, ref, ads_orderedmap_seek, order, key, value,
					   op->verb == 'I'   ? ADS_INSERT
					   : op->verb == 'R' ? ADS_REPLACE
							     : ADS_ANY,
					   &entry);
	}
	if (op->verb == 'G' || op->verb == 'M') {
		op->value = value[0];
		if (!rc && value[1] != ~value[0])
			rc = ADS_DAMAGED;
	}
	op->rc = rc;
}

static int apply_bytes(struct model *m, const struct op *op)
{
	struct op known;

	if (op->verb != 'M' || op->rc != PENDING)
		return apply_orderedmap(m, op);
	known = *op;
	known.id = id_of_bytes(op->ids);
	return apply_orderedmap(m, &known);
}

static const struct state bytes_states[] = {
	{"empty", "", 16, 0},
	{"one entry", "Ia", 16, 0},
	{"three", "Ia Ib Ic", 16, 0},
	{"all of them", "Ia Ib Ic Id", 16, 0},
	{"free entries", "Ia Ib Ic Id Da Dc", 16, 0},
	{"full", "Ia Ic", 2, 0},
	{"deleted but linked", "Ia Ic Id Dc/2", 16, 0},
};

struct bytes_programs {
	const char *words[2];
};

static void explore_bytes_programs(const struct bytes_programs *all, int count, const struct state *states, int of)
{
	static const struct limits fewer = {2, 1, 1};
	int i, j;

	for (i = 0; i < count; i++)
		for (j = 0; j < of; j++)
			run_scenario(&states[j], all[i].words[0], all[i].words[1], NULL, same_cpu,
				     long_run ? &two_actors : &fewer);
}

static void explore_bytes(void)
{
	static const struct bytes_programs all[] = {
		{{"Rc", "Db Id"}}, {{"Dc", "Db Id"}}, {{"Ic", "Db Id"}}, {{"Ga", "Ra"}}, {{"Gb", "Da Ia"}}, {{"Gb", "Db Ia"}}, {{"Ga", "Dc Ia"}}, {{"Gd", "Dc Ib"}}, {{"Ga", "Da Ib"}},
		{{"Ia", "Ib"}}, {{"Ia", "Da"}}, {{"Ia", "Ia"}}, {{"Ic", "Db Ia"}}, {{"Ra", "Da Ib"}}, {{"Ra", "Ra"}},
		{{"Da", "Da"}}, {{"Dc", "Db"}}, {{"Db", "Da Ic"}}, {{"M", "M"}}, {{"M", "Ia"}}, {{"M", "Da Ia"}},
		{{"M", "Ra"}}, {{"S", "Da Ib"}}, {{"S", "Dc Ic"}}, {{"S", "Rb"}}, {{"S", "Db Id"}}, {{"S", "Dc Ia"}},
	};

	explore_bytes_programs(all, COUNT(all), bytes_states, COUNT(bytes_states));
}

static const struct exploration bytes_exploration = {
	.name = "bytes",
	.kind = ADS_KIND_ORDEREDMAP,
	.survivor = "Ga Gb Gc Gd Ua Ga Da Ga Ib Rc Dc M",
	.closing = "S",
	.changes = "IRUDM",
	.create = create_bytes,
	.run = run_bytes,
	.apply = apply_bytes,
	.explore = explore_bytes,
};

/* --- hints --------------------------------------------------------------------------- */

static void run_hints(struct op *op, __u32 *object)
{
	if (op->verb != 'W') {
		run_orderedmap(op, object);
		return;
	}
	ads_table_grow(&arena, ref.offset); /* if it cannot, all goes on as before */
	op->rc = ADS_OK;
}

/* A hint stays in its table until it is used, which puts it into the newest one too. */
static const struct state hints_states[] = {
	{"about to grow", "Ia Ic Id", 100, 0},
	{"hints grown", "Ia Ic Id W", 100, 0},
	{"hints grown, half of them moved", "Ia Ic Id W Ga", 100, 0},
	{"hints grown, a hint moved and its key deleted", "Ia Ic Id W Gc Dc", 100, 0},
	{"hints grown, a key deleted whose hint was not moved", "Ia Ic Id W Dc Ib", 100, 0},
	{"hints grown, a key deleted, its old hint leads to another", "Ia Ic Id W Dc/7", 100, 0},
	{"hints grown twice", "Ia Ic W Id W Gc", 100, 0},
	{"hints claimed", "Ia Ic Id W/2", 100, 0},
	{"hints written, not published", "Ia Ic Id W/3", 100, 0},
	{"hints published, cursor behind", "Ia Ic Id W/4", 100, 0},
};

static void explore_hints(void)
{
	static const struct bytes_programs all[] = {
		{{"W", "Ga"}}, {{"W", "Gc Dc"}}, {{"W", "Dc Gc"}}, {{"W", "Ib Gb"}}, {{"W", "Rc Gc"}}, {{"W", "W"}},
		{{"Gc", "Dc"}}, {{"Gc", "Dc Ic"}}, {{"Gc", "Rc"}}, {{"Gc", "Gc"}}, {{"Gc", "Dc Ib Ic"}}, {{"Gc", "Dc W Ib"}},
		{{"Ic", "Dc Ic"}}, {{"Rc", "Gc"}}, {{"Ic", "W Gc"}}, {{"M", "Ga"}}, {{"M", "W Ia"}}, {{"Ga", "Da Ib"}},
	};

	explore_bytes_programs(all, COUNT(all), hints_states, COUNT(hints_states));
}

static const struct exploration hints_exploration = {
	.name = "hints",
	.kind = ADS_KIND_ORDEREDMAP,
	.survivor = "Ga Gb Gc Gd Ua Ga Da Ga Ib W Rc Dc M",
	.closing = "S",
	.changes = "IRUDM",
	.create = create_orderedmap,
	.run = run_hints,
	.apply = apply_orderedmap,
	.explore = explore_hints,
};
