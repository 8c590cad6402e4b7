/* SPDX-License-Identifier: MIT */
/*
 * interleave_grace.h - reclamation after a grace period (reclaim.h) in the explorer, see interleave.c: a hash
 * map made with ADS_GRACE. Verbs beyond those of a map:
 *
 *	C	reclaim
 *	Hx	a BPF program finds key x, and looks again and again, until it ends, at where it found it
 *	Ex	the same, and deletes x itself before it looks
 *
 * The grace period is RCU's: it ends when every BPF program that ran when it began has ended, and waits
 * for nobody else. So a reclaimer does not go on before each actor that stands for a BPF program and was
 * inside an operation then has ended this operation. Not weaker: an operation counts as begun with its
 * first access, before which it knows nothing. Not stronger: an actor between two operations is waited for
 * as little as one that begins an operation later, or as user space; and that others go on first after the end
 * is a schedule like any other.
 *
 * Two of the protocol's cares are not needed for what is shown here, and no schedule misses them: that sealing changes
 * the shard's version, and that who retires looks at the epoch again. Who retires an entry reads the epoch after
 * its mark; so an entry in the shard of an epoch was marked before that epoch ended, whenever it is pushed.
 */

/* Whether the entry is as the program has found it: op->value was the value. */
static int grace_holds(const struct op *op, __u32 entry)
{
	const struct key *key = &keys[op->key - 'a'];
	const __u64 *words = ads_at(&arena, __u64, entry + 16);

	return ads_load(words) == key->word[0] && ads_load(words + 1) == key->word[1] &&
	       ads_load(words + 2) == op->value && ads_load(words + 3) == ~op->value;
}

static void create_grace(void)
{
	int rc;

	ref.key_size = 16;
	ref.flags = ADS_GRACE;
	rc = ads_hashmap_create(&arena, ADS_KIND_HASHMAP, &ref, state->capacity, 4);
	if (rc)
		give_up("cannot create the map", rc);
	choose_keys();
}

/* A BPF program has begun, or is about to end. Others may go on here: whether a reclaimer waits for it, and so gives
 * way to whom it likes, is an outcome of its own. */
static void grace_edge(void)
{
	if (!now || now->by_user)
		return;
	touch(CALLS, (int)(now - actors), ADS_POINT_STORE);
	wake(CALLS, ADS_POINT_STORE);
	decide_at(CALLS, ADS_POINT_STORE);
}

static void run_grace(struct op *op, __u32 *object)
{
	__u64 value[2] = {op->value, ~op->value};
	__u32 entry = 0;
	__s64 rc;

	grace_edge();
	switch (op->verb) {
	case 'S':
		scan_all(op);
		return;
	case 'C':
		rc = ads_collection_reclaim(&arena, ref);
		op->value = (__u64)rc;
		rc = rc < 0 ? rc : ADS_OK;
		break;
	case 'H':
	case 'E':
		rc = ads_hashmap_find(&arena, ref, &keys[op->key - 'a'], &entry);
		if (rc)
			break;
		op->value = ads_load(ads_at(&arena, __u64, entry + 32));
		if (!grace_holds(op, entry))
			problem = "what a program has found is another key's at once";
		if (op->verb == 'E')
			rc = ads_hashmap_delete(&arena, ref, &keys[op->key - 'a']);
		if (!grace_holds(op, entry))
			problem = "an entry was used again while a program held it";
		break;
	case 'K':
		rc = ads_hashmap_update_next(&arena, ref, &keys[op->key - 'a'], value, ADS_ANY, &entry, object);
		break;
	case 'k':
		ads_hashmap_let_go(&arena, ref, object);
		rc = ADS_OK;
		break;
	default:
		rc = run_on_entries(op, op->verb == 'I'	  ? ADS_INSERT
					: op->verb == 'R' ? ADS_REPLACE
							  : ADS_ANY);
	}
	grace_edge();
	op->rc = (int)rc;
}

static __u64 grace_waiting; /* at the start */

static int apply_grace(struct model *m, const struct op *op)
{
	int at = op->key ? model_find(m, op->id) : -1;
	__u32 used = (__u32)(m->count + held_by_others(op));
	int i;

	switch (op->verb) {
	case 'C':
		return op->rc == PENDING || op->rc == ADS_OK;
	case 'H': /* not the latest value, if it was replaced meanwhile: but one that the key had */
		if (op->rc == PENDING)
			return 0;
		return at < 0 ? op->rc == ADS_ABSENT : op->rc == ADS_OK && m->values[at] == op->value;
	case 'E':
		if (at < 0)
			return op->rc == ADS_ABSENT;
		if (op->rc)
			return 0;
		model_remove(m, at);
		return 1;
	case 'I':
	case 'U':
	case 'K': /* what waits is not to be had */
		if (op->rc != ADS_FULL)
			return -1;
		for (i = 0; i < history_count; i++)
			used += &history[i] != op && !!strchr("RUKDE", history[i].verb);
		return used + (setting_up ? 0 : grace_waiting) >= state->capacity;
	default:
		return -1;
	}
}

/* The check agrees with the scan, whatever waits; and all that waits comes back. */
static const char *grace_books(int dead)
{
	struct ads_check_report report;
	__u64 live = (__u64)history[history_count - 1].count; /* of the closing scan */
	__u64 linked;
	int i;

	(void)dead;
	if (run_check(&report, 0) || report.errors || report.live != live)
		return "the check counts other entries than the scan";
	linked = report.live + report.deleted;
	if (ads_collection_len(&arena, ref) != linked)
		return "the pool counts other entries than the check";
	for (i = 0; report.waiting && i < 3; i++)
		if (ads_collection_reclaim(&arena, ref) < 0 || run_check(&report, 0) || report.errors)
			return "after the end nobody can reclaim";
	if (report.waiting || report.leaked || report.live + report.deleted != linked)
		return "what waited does not come back";
	return ads_collection_len(&arena, ref) != linked ? "what came back is counted otherwise" : NULL;
}

static const struct state grace_states[] = {
	{"nothing waits", "Ia Ib", 16, 0},
	{"entries wait", "Ia Ib Ic Dc Ra", 16, 0},
	{"two wait, full but for them", "Ia Ic Ib Dc Rb", 3, 0},
	{"nobody has moved the epoch", "Ia Ib Db C/1", 16, 0},
	{"the epoch moved, the old shard not sealed", "Ia Ib Db C/2", 16, 0},
	{"sealed, not drained", "Ia Ib Db C/3", 16, 0},
	{"sealed, not drained, and younger ones wait", "Ia Ib Ic Db C/3 Dc", 16, 0},
	{"an entry spoken for", "Ia Ib Ic Db Dc C/4", 16, 0},
	{"an entry marked as taken", "Ia Ib Ic Db Dc C/5", 16, 0},
	{"an entry taken", "Ia Ib Ic Db Dc C/6", 16, 0},
	{"an entry about to be pushed", "Ia Ib Ic Db Dc C/8", 16, 0},
	{"an entry given, its link is not", "Ia Ib Ic Db Dc C/9", 16, 0},
	{"drained once before", "Ia Ib Db C Ib Db C Ib", 16, 0},
};

/* All by user space but for the actors in `bpf`. */
static void grace_scenario(const struct state *from, const char *first, const char *second, const char *third,
			   const struct limits *limits, int bpf)
{
	struct ads_check_report report;

	programs[0] = first;
	programs[1] = second;
	programs[2] = third;
	cpus = same_cpu;
	set_up(from);
	grace_waiting = run_check(&report, 0) ? 0 : report.waiting;
	actor_count = third ? 3 : 2;
	bpf_actors = bpf;
	explore(limits);
}

struct grace_programs {
	const char *words[3];
	int bpf; /* bit i: actor i stands for a BPF program */
};

static void explore_grace_programs(const struct grace_programs *all, int count)
{
	int i, j;

	for (i = 0; i < count; i++)
		for (j = 0; j < COUNT(grace_states); j++)
			grace_scenario(&grace_states[j], all[i].words[0], all[i].words[1], all[i].words[2],
				       all[i].words[2] ? &three_actors : &two_actors, all[i].bpf);
}

/* One who reclaims. */
static void explore_grace(void)
{
	static const struct grace_programs all[] = {
		{{"Da C Id", "Ha"}, 2}, {{"C", "Ha"}, 2}, {{"Ra C Id", "Ha Ha"}, 2}, {{"Da C Ia", "Ha"}, 2},
		{{"Da C Ra", "Hb"}, 2}, {{"Ua C Uc", "Ea"}, 2}, {{"Ka Kb k C Id", "Ha"}, 2}, {{"C Id", "Ea"}, 2},
		{{"C Id", "Da Ia"}, 2}, {{"C", "Ra"}, 2}, {{"C Id", "Da"}, 0}, {{"C Id", "Ra"}, 0}, {{"C", "Ib"}, 0},
		{{"C Id", "Ha", "Da"}, 6}, {{"C Id", "Ha", "Ra"}, 2}, {{"Da C", "Ha", "Id"}, 2}, {{"C Ic Id", "Ea", "Ha"}, 6},
	};

	explore_grace_programs(all, COUNT(all));
}

/* Several. */
static void explore_reclaimers(void)
{
	static const struct grace_programs all[] = {
		{{"C", "C"}, 0}, {{"Da C", "Db C"}, 0}, {{"Da C Id", "C"}, 0}, {{"C C", "Da"}, 2},
		{{"C Id", "C", "Da"}, 4}, {{"C", "C Id", "Ra"}, 0}, {{"Da C Id", "Ha", "C"}, 2}, {{"C Id", "Ea", "C"}, 2},
	};

	explore_grace_programs(all, COUNT(all));
}

#define GRACE_EXPLORATION(of)                                                  \
	{                                                                      \
		.name = #of,                                                   \
		.kind = ADS_KIND_HASHMAP,                                      \
		.survivor = "Ga Gb Gc Gd Ua Ga Da C Ib Rc Dc C",               \
		.closing = "S",                                                \
		.changes = "IRUDECKk",                                         \
		.create = create_grace,                                        \
		.run = run_grace,                                              \
		.apply = apply_grace,                                          \
		.books = grace_books,                                          \
		.explore = explore_##of,                                       \
	}

static const struct exploration grace_exploration = GRACE_EXPLORATION(grace);
static const struct exploration reclaimers_exploration = GRACE_EXPLORATION(reclaimers);
