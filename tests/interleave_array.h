/* SPDX-License-Identifier: MIT */
/*
 * interleave_array.h - arrays in the explorer, see interleave.c. Two elements a chunk: a and b,
 * c and d, e; f is out of range.
 *
 * G get, U set, T look up and read, A add 1, X exchange, C compare with 0 and exchange, each with
 * an element; B allocate a block, P an object of a pool: they claim at the same cursor.
 *
 * A chunk, a block and an object each take one cache line of memory. state->room is how many
 * there are, with those of the setup; 0: more than anybody needs.
 */
#define ARRAY_CHUNK_IDS 100 /* in the model: chunks that exist, behind the elements */
#define ARRAY_LINES_ID 200  /* and the lines that blocks and objects have taken */

static struct ads_ref array_pool;

static void array_create(void)
{
	struct ads_ref pool = {0, 0, 8, 0};
	int rc;

	ref.key_size = 0;
	ref.value_size = 8;
	rc = ads_array_create(&arena, &ref, state->capacity);
	if (!rc)
		rc = ads_hashmap_create(&arena, ADS_KIND_POOL, &pool, 4, 1);
	if (rc)
		give_up("cannot create the array", rc);
	array_pool = pool;
	if (state->room)
		fill_memory(state->room);
}

static int array_takes_line(const struct op *op)
{
	return op->verb == 'B' || op->verb == 'P';
}

/* op->rc comes last: until then the operation is pending, if it dies too. */
static void array_run(struct op *op, __u32 *object)
{
	__u32 index = (__u32)(op->key - 'a'), element = 0, at = 0;
	__u64 value = op->value;
	int rc;

	(void)object;
	op->values[0] = op->value; /* what it stores, if it does */
	switch (op->verb) {
	case 'B':
	case 'P':
		rc = op->verb == 'B' ? ads_alloc(&arena, 24, &at) : ads_pool_alloc(&arena, array_pool, &at);
		op->id = at;
		break;
	case 'G':
		rc = ads_array_get(&arena, ref, state->capacity, index, &value);
		break;
	case 'U':
		rc = ads_array_set(&arena, ref, state->capacity, index, &value);
		break;
	default:
		rc = ads_array_find(&arena, ref, state->capacity, index, &element);
		if (rc)
			break;
		if (op->verb == 'T')
			value = ads_load(ads_at(&arena, __u64, element));
		else if (op->verb == 'A')
			value = ads_add(ads_at(&arena, __u64, element), 1);
		else if (op->verb == 'X')
			value = ads_xchg(ads_at(&arena, __u64, element), value);
		else
			value = ads_cas(ads_at(&arena, __u64, element), 0, value);
	}
	op->value = value;
	op->rc = rc;
}

/* The chunk that an operation on an element needs, as it is called in the model. */
static __u64 array_chunk_id(const struct op *op)
{
	return ARRAY_CHUNK_IDS + (op->id - 10) / 2;
}

static __u32 array_lines(const struct model *m)
{
	__u32 lines = 0;
	int i;

	for (i = 0; i < m->count; i++)
		lines += m->ids[i] == ARRAY_LINES_ID ? (__u32)m->values[i] : m->ids[i] >= ARRAY_CHUNK_IDS;
	return lines;
}

/* Lines that others may have taken though the model does not have what they took them for: an
 * operation makes its chunk before it stores, and one that has died may have made it only. But
 * one that has made the chunk that `op` needs is no reason for `op` to have none. */
static __u32 array_lines_in_hands(const struct model *m, const struct op *op)
{
	__u32 lines = (__u32)start_dead;
	int i;

	for (i = 0; i < history_count; i++) {
		const struct op *other = &history[i];

		if (other == op || other->actor == op->actor || other->verb == 'G' || other->invoked > op->returned ||
		    (other->returned && other->returned < op->invoked))
			continue;
		if (!array_takes_line(other) && !array_takes_line(op) && array_chunk_id(other) == array_chunk_id(op))
			continue;
		lines += array_takes_line(other) || model_find(m, array_chunk_id(other)) < 0;
	}
	return lines;
}

/* Take a line for `id`: -1 if the result says that there was none, and that can be. */
static int array_take(struct model *m, const struct op *op, __u64 id)
{
	int at = model_find(m, id);

	if (at >= 0 && id != ARRAY_LINES_ID)
		return op->rc != ADS_NO_MEMORY;
	if (op->rc == ADS_NO_MEMORY)
		return state->room && array_lines(m) + array_lines_in_hands(m, op) >= state->room ? -1 : 0;
	if (state->room && array_lines(m) >= state->room)
		return 0;
	if (at < 0)
		return model_add(m, id, 1);
	m->values[at]++;
	return 1;
}

static int array_apply(struct model *m, const struct op *op)
{
	int pending = op->rc == PENDING;
	int taken, at;
	__u64 before;

	if (array_takes_line(op))
		return !pending && (!op->rc || op->rc == ADS_NO_MEMORY) && array_take(m, op, ARRAY_LINES_ID);
	if (op->id - 10 >= state->capacity)
		return op->rc == ADS_ABSENT;
	at = model_find(m, op->id);
	before = at < 0 ? 0 : m->values[at];
	if (op->verb == 'G')
		return !pending && !op->rc && op->value == before;
	if (!pending && op->rc && op->rc != ADS_NO_MEMORY)
		return 0;
	taken = array_take(m, op, array_chunk_id(op));
	if (taken <= 0)
		return taken < 0;
	if (!pending && op->verb != 'U' && op->value != before)
		return 0;
	if (op->verb == 'T' || (op->verb == 'C' && before))
		return 1;
	if (at < 0 && !model_add(m, op->id, 0))
		return 0;
	m->values[model_find(m, op->id)] = op->verb == 'A' ? before + 1 : op->values[0];
	return 1;
}

/* As many chunks as were touched, if nobody has died, and not one more. */
static const char *array_books(int dead)
{
	__u32 chunks = ads_array_populated(&arena, ref), touched_chunks = 0;
	int i;

	for (i = 0; i < last_model->count; i++)
		if (last_model->ids[i] >= ARRAY_CHUNK_IDS && last_model->ids[i] < ARRAY_LINES_ID)
			touched_chunks += last_model->ids[i] == ARRAY_CHUNK_IDS + (state->capacity - 1) / 2
						  ? (state->capacity - 1) % 2 + 1
						  : 2;
	return dead || start_dead || chunks == touched_chunks ? NULL : "other chunks exist than were touched";
}

static const struct state array_states[] = {
	{"empty", "", 5, 0},
	{"the first chunk is there", "Ua", 5, 0},
	{"all chunks are there", "Ua Uc Ue", 5, 0},
	{"memory for one line", "", 5, 1},
	{"memory for two lines", "", 5, 2},
	{"memory for one line more", "Uc", 5, 2},
	{"no memory", "Uc", 5, 1},
	{"a chunk claimed and no more", "Ua/2", 5, 0},
	{"a chunk published, the cursor behind", "Ua/3", 5, 0},
	{"a chunk made and not stored to", "Ua/4", 5, 0},
	{"another chunk claimed and no more", "Uc/2", 5, 0},
	{"the last memory claimed for a chunk and no more", "Ua/2", 5, 1},
	{"the last memory claimed for another chunk and no more", "Uc/2", 5, 1},
	{"a block claimed and no more", "B/2", 5, 0},
	{"a chunk of a pool claimed and no more", "P/2", 5, 2},
};

static void array_explore(void)
{
	static const char *const firsts[] = {"Ga", "Ua", "Ta", "Aa", "Xa", "Ca", "B", "P", NULL};
	static const char *const others[] = {"Ga", "Ua", "Ta", "Aa", "Xa", "Ca", "Ub", "Tb", "Uc", "Tc",
					     "B", "P", "Uf", NULL};
	static const char *const programs_of_two[][2] = {
		{"Ua", "Ua Ga"}, {"Ua Ga", "Ua Ga"}, {"Aa", "Aa Aa"}, {"Ua Uc", "Uc Ua"}, {"Ua Ue", "Ub Uc"},
		{"Ta", "Uc Ua"}, {"Ga Ga", "Ua Xa"}, {"Ca", "Ca Ga"}, {"Ua B", "B Ua"}, {"P Ua", "Ua P"},
		{"Gb Ga", "Ua Ub"}, {"Ua", "B Uc Ua"}, {"Uf Ua", "Ua Uc"},
	};
	static const char *const triples[][3] = {
		{"Ua", "Ua", "Ua"}, {"Aa", "Aa", "Ab"}, {"Ua", "Uc", "Ua"}, {"Ua", "Uc", "Ue"}, {"Ta", "Ga", "Xa"},
		{"Ua", "B", "P"}, {"Aa", "P", "Ac"}, {"Ca", "Ca", "Ga"}, {"Ua", "Uc", "B"},
	};
	int i, j;

	explore_pairs(array_states, COUNT(array_states), firsts, others);
	for (i = 0; i < COUNT(programs_of_two); i++)
		for (j = 0; j < COUNT(array_states); j++)
			run_scenario(&array_states[j], programs_of_two[i][0], programs_of_two[i][1], NULL, same_cpu,
				     &two_actors);
	for (i = 0; i < COUNT(triples); i++)
		for (j = 0; j < COUNT(array_states); j++)
			run_scenario(&array_states[j], triples[i][0], triples[i][1], triples[i][2], same_cpu, &three_actors);
}

static const struct exploration array_exploration = {
	"array",
	ADS_KIND_ARRAY,
	"Ga Ua Ab Tc Gc Xd Ce B P Ue Gf Ga",
	"Ga Gb Gc Gd Ge",
	"",
	array_create,
	array_run,
	array_apply,
	array_books,
	array_explore,
	0,
};
