/* SPDX-License-Identifier: MIT */
/*
 * _arrow.c - records as Arrow columns; compiled as the second part of _core.c.
 *
 * The Arrow C data and stream interfaces (arrow.apache.org/docs/format/CDataInterface.html), and
 * nothing else of Arrow: the structs below are the ABI. A stream holds the block of a snapshot and
 * a plan, the tree of columns that Python has made of the schema, and makes columns of some
 * records at each get_next(). It needs neither Python nor the arena, and runs in any thread.
 *
 *	records  [key|value][key|value][key|value] ...	a piece of them at a time, which stays in
 *		   |    |						the cache while all columns take their part
 *	columns  [k|k|k ...  [v|v|v ...
 */
#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

struct ArrowSchema {
	const char *format, *name, *metadata;
	int64_t flags, n_children;
	struct ArrowSchema **children, *dictionary;
	void (*release)(struct ArrowSchema *);
	void *private_data;
};

struct ArrowArray {
	int64_t length, null_count, offset, n_buffers, n_children;
	const void **buffers;
	struct ArrowArray **children, *dictionary;
	void (*release)(struct ArrowArray *);
	void *private_data;
};
#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
	int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *);
	int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *);
	const char *(*get_last_error)(struct ArrowArrayStream *);
	void (*release)(struct ArrowArrayStream *);
	void *private_data;
};
#endif

ADS_STATIC_ASSERT(sizeof(struct ArrowSchema) == 72, "Arrow ABI");
ADS_STATIC_ASSERT(sizeof(struct ArrowArray) == 80, "Arrow ABI");
ADS_STATIC_ASSERT(sizeof(struct ArrowArrayStream) == 40, "Arrow ABI");

/* --- plans ---------------------------------------------------------------------------------------- */

enum arrow_kind {
	ARROW_STRUCT,
	ARROW_LIST, /* of a fixed size, one child */
	ARROW_COPY, /* bytes as they are */
	ARROW_NUMBER, /* a bit field, as an integer of `size` bytes */
	ARROW_BOOL, /* a bit */
	ARROW_TEXT, /* up to a NUL or the end */
	ARROW_ENUM, /* an index into a dictionary of names */
};

/* A node of the tree, its children follow it. `at`: bytes from where its parent's element begins. */
typedef struct {
	__u32 kind, children, at, size;
	__u32 count;	 /* of a list: elements; of an enum: members */
	__u32 bit, bits; /* of a bit field: its first bit from `at` and how many; 0 bits: it is none */
	__u32 is_signed;
	__u32 metadata_size;
	const char *format, *name, *metadata;
	const __u64 *values; /* of an enum, as 64 bits */
	const char *names;   /* of an enum, one after the other, each ended by NUL */
} core_column;

typedef struct {
	__u32 count;
	core_column columns[];
} arrow_plan;

static void *arrow_copied(const void *from, __u64 size)
{
	void *to = malloc(size ? size : 1);

	if (to && size)
		memcpy(to, from, size);
	return to;
}

static void arrow_plan_free(arrow_plan *plan)
{
	__u32 i;

	for (i = 0; plan && i < plan->count; i++) {
		const core_column *c = &plan->columns[i];

		free((void *)(unsigned long)c->format);
		free((void *)(unsigned long)c->name);
		free((void *)(unsigned long)c->metadata);
		free((void *)(unsigned long)c->values);
		free((void *)(unsigned long)c->names);
	}
	free(plan);
}

static __u64 arrow_names_size(const core_column *c)
{
	const char *end = c->names;
	__u32 i;

	for (i = 0; i < c->count; i++)
		end += strlen(end) + 1;
	return (__u64)(end - c->names);
}

static arrow_plan *arrow_plan_copy(const core_column *columns, __u32 count)
{
	arrow_plan *plan = calloc(1, sizeof(*plan) + count * sizeof(*columns));
	int whole = plan != 0;
	__u32 i;

	for (i = 0; plan && i < count; i++) {
		core_column *c = &plan->columns[i];

		*c = columns[i];
		plan->count = i + 1;
		c->format = arrow_copied(columns[i].format, strlen(columns[i].format) + 1);
		c->name = arrow_copied(columns[i].name, strlen(columns[i].name) + 1);
		c->metadata = arrow_copied(columns[i].metadata, columns[i].metadata_size);
		c->values = 0;
		c->names = 0;
		if (c->kind == ARROW_ENUM) {
			c->values = arrow_copied(columns[i].values, 8ull * c->count);
			c->names = arrow_copied(columns[i].names, arrow_names_size(&columns[i]));
			whole = whole && c->values && c->names;
		}
		whole = whole && c->format && c->name && c->metadata;
	}
	if (whole)
		return plan;
	arrow_plan_free(plan);
	return 0;
}

/* The column behind one and all that is in it. */
static __u32 arrow_behind(const arrow_plan *plan, __u32 column)
{
	__u32 children = plan->columns[column].children, next = column + 1, i;

	for (i = 0; i < children; i++)
		next = arrow_behind(plan, next);
	return next;
}

/* --- schemas --------------------------------------------------------------------------------------- */

static void arrow_schema_release(struct ArrowSchema *schema)
{
	int64_t i;

	for (i = 0; i < schema->n_children; i++) {
		struct ArrowSchema *child = schema->children[i];

		if (child && child->release)
			child->release(child);
		free(child);
	}
	if (schema->dictionary && schema->dictionary->release)
		schema->dictionary->release(schema->dictionary);
	free(schema->dictionary);
	free(schema->children);
	free((void *)(unsigned long)schema->format);
	free((void *)(unsigned long)schema->name);
	free((void *)(unsigned long)schema->metadata);
	schema->release = 0;
}

static int arrow_schema_make(const arrow_plan *plan, __u32 column, struct ArrowSchema *schema)
{
	const core_column *c = &plan->columns[column];
	__u32 next = column + 1, i;

	memset(schema, 0, sizeof(*schema));
	schema->release = arrow_schema_release;
	schema->format = arrow_copied(c->format, strlen(c->format) + 1);
	schema->name = arrow_copied(c->name, strlen(c->name) + 1);
	schema->children = calloc(c->children ? c->children : 1, sizeof(*schema->children));
	if (c->metadata_size)
		schema->metadata = arrow_copied(c->metadata, c->metadata_size);
	if (!schema->format || !schema->name || !schema->children || (c->metadata_size && !schema->metadata))
		return ENOMEM;
	for (i = 0; i < c->children; i++, next = arrow_behind(plan, next)) {
		schema->n_children = i + 1;
		schema->children[i] = calloc(1, sizeof(*schema));
		if (!schema->children[i] || arrow_schema_make(plan, next, schema->children[i]))
			return ENOMEM;
	}
	if (c->kind == ARROW_ENUM) {
		schema->dictionary = calloc(1, sizeof(*schema));
		if (!schema->dictionary)
			return ENOMEM;
		schema->dictionary->release = arrow_schema_release;
		schema->dictionary->format = arrow_copied("u", 2);
		schema->dictionary->name = arrow_copied("", 1);
		if (!schema->dictionary->format || !schema->dictionary->name)
			return ENOMEM;
	}
	return 0;
}

static int arrow_schema_of(const arrow_plan *plan, struct ArrowSchema *schema)
{
	int rc = arrow_schema_make(plan, 0, schema);

	if (rc)
		arrow_schema_release(schema);
	return rc;
}

/* --- dictionaries ------------------------------------------------------------------------------------ */

/* From the values of an enum to their places in its dictionary. A value that has no name gets a
 * place behind those that have, and its number for a name. A table with open addressing. */
typedef struct {
	__u64 *values;
	__u32 *places; /* 1 + place; 0: free */
	__u32 mask, used;
	__u64 *unnamed;
	__u32 unnamed_count, names;
	__u32 small[256]; /* 1 + place of small values, without a search; 0: search */
} arrow_places;

static __u32 arrow_slot(const arrow_places *p, __u64 value)
{
	__u32 slot = (__u32)((value * 0x9e3779b97f4a7c15ull) >> 32);

	for (;; slot++) {
		slot &= p->mask;
		if (!p->places[slot] || p->values[slot] == value)
			return slot;
	}
}

static void arrow_places_free(arrow_places *p)
{
	free(p->values);
	free(p->places);
	free(p->unnamed);
}

static int arrow_places_resize(arrow_places *p, __u32 slots)
{
	arrow_places larger = *p;
	__u32 i;

	larger.mask = slots - 1;
	larger.values = calloc(slots, sizeof(*larger.values));
	larger.places = calloc(slots, sizeof(*larger.places));
	larger.unnamed = realloc(p->unnamed, slots * sizeof(*larger.unnamed));
	if (larger.unnamed)
		p->unnamed = larger.unnamed;
	if (!larger.values || !larger.places || !larger.unnamed) {
		free(larger.values);
		free(larger.places);
		return ENOMEM;
	}
	for (i = 0; p->places && i <= p->mask; i++) {
		if (p->places[i]) {
			__u32 slot = arrow_slot(&larger, p->values[i]);

			larger.values[slot] = p->values[i];
			larger.places[slot] = p->places[i];
		}
	}
	free(p->values);
	free(p->places);
	*p = larger;
	return 0;
}

static int arrow_places_add(arrow_places *p, __u64 value, __u32 place)
{
	__u32 slot;

	if (2 * ++p->used > p->mask && arrow_places_resize(p, 2 * (p->mask + 1)))
		return ENOMEM;
	slot = arrow_slot(p, value);
	p->values[slot] = value;
	p->places[slot] = place + 1;
	if (value < 256)
		p->small[value] = place + 1;
	return 0;
}

static int arrow_places_start(arrow_places *p, const core_column *c)
{
	__u32 i;

	p->names = c->count;
	if (arrow_places_resize(p, 16))
		return ENOMEM;
	for (i = 0; i < c->count; i++) /* of two names for one value, the first */
		if (!p->places[arrow_slot(p, c->values[i])] && arrow_places_add(p, c->values[i], i))
			return ENOMEM;
	return 0;
}

/* The place of a value; negative: no memory. */
static __s64 arrow_place(arrow_places *p, __u64 value)
{
	__u32 place = value < 256 && p->small[value] ? p->small[value] : p->places[arrow_slot(p, value)];

	if (ADS_LIKELY(place))
		return place - 1;
	place = p->names + p->unnamed_count;
	if (place >= 0x7fffffff || arrow_places_add(p, value, place))
		return -1;
	p->unnamed[p->unnamed_count++] = value;
	return place;
}

/* --- columns ----------------------------------------------------------------------------------------- */

/* What a column has become so far. */
typedef struct {
	char *data;	  /* elements, bits, or text */
	__s32 *offsets; /* of text */
	__u64 length, room;
	arrow_places places;
} arrow_output;

static int arrow_fill(const arrow_plan *plan, arrow_output *outputs, __u32 column, const char *from, __u64 count,
		      __u64 stride);

#define ARROW_COPY_LOOP(type)                                                  \
	do {                                                                   \
		type *items = (type *)(void *)to;                              \
		for (i = 0; i < count; i++, from += stride)                    \
			memcpy(items + i, from, sizeof(type));                 \
	} while (0)

static void arrow_copy(char *to, const char *from, __u64 count, __u64 stride, __u32 size)
{
	__u64 i;

	if (stride == size) {
		memcpy(to, from, count * size);
		return;
	}
	switch (size) {
	case 1:
		ARROW_COPY_LOOP(unsigned char);
		break;
	case 2:
		ARROW_COPY_LOOP(__u16);
		break;
	case 4:
		ARROW_COPY_LOOP(__u32);
		break;
	case 8:
		ARROW_COPY_LOOP(__u64);
		break;
	default:
		for (i = 0; i < count; i++, from += stride, to += size)
			memcpy(to, from, size);
	}
}

/* An integer as 64 bits, a bit field too. */
static __u64 arrow_integer(const core_column *c, const char *from)
{
	__u32 bits = c->bits ? c->bits : 8 * c->size;
	__u32 bytes = (c->bit + bits + 7) / 8;
	__u64 value = 0;

	if (!c->bits && c->size == 4) { /* most enums */
		__u32 whole;

		memcpy(&whole, from, 4);
		return c->is_signed ? (__u64)(__s64)(int)whole : whole;
	}
	memcpy(&value, from, bytes < 8 ? bytes : 8);
	value >>= c->bit;
	if (bytes > 8)
		value |= (__u64)(unsigned char)from[8] << (64 - c->bit);
	if (bits < 64) {
		value &= (1ull << bits) - 1;
		if (c->is_signed && value >> (bits - 1))
			value |= ~0ull << bits;
	}
	return value;
}

/* Bytes of the character that begins at `from`; 0: it is no UTF-8. */
static __u32 arrow_character(const unsigned char *from, __u32 left)
{
	__u32 size = from[0] < 0x80 ? 1 : from[0] < 0xc2 ? 0 : from[0] < 0xe0 ? 2 : from[0] < 0xf0 ? 3 : from[0] < 0xf5 ? 4 : 0;
	__u32 i;

	if (!size || size > left)
		return 0;
	for (i = 1; i < size; i++)
		if ((from[i] & 0xc0) != 0x80)
			return 0;
	/* Not in the shortest form, a surrogate, or above U+10FFFF. */
	if ((from[0] == 0xe0 && from[1] < 0xa0) || (from[0] == 0xed && from[1] > 0x9f) ||
	    (from[0] == 0xf0 && from[1] < 0x90) || (from[0] == 0xf4 && from[1] > 0x8f))
		return 0;
	return size;
}

/* Append text; what is no UTF-8 becomes U+FFFD, byte by byte. There is room for thrice the size. */
static __u64 arrow_text(char *to, const char *from, __u32 size)
{
	const unsigned char *bytes = (const unsigned char *)from;
	char *end = to;
	__u32 i = 0;

	/* Eight bytes of ASCII at a time, up to the first NUL. Bytes behind it are written over later. */
	while (size - i >= 8) {
		__u64 word, zeros;

		memcpy(&word, from + i, 8);
		zeros = (word - 0x0101010101010101ull) & ~word & 0x8080808080808080ull;
		if (word & 0x8080808080808080ull)
			break;
		memcpy(end, &word, 8);
		if (zeros)
			return (__u64)(end - to) + (__u64)__builtin_ctzll(zeros) / 8;
		end += 8;
		i += 8;
	}
	while (i < size && bytes[i]) {
		__u32 width = arrow_character(bytes + i, size - i);

		if (!width) {
			memcpy(end, "\xef\xbf\xbd", 3);
			end += 3;
			i++;
			continue;
		}
		memcpy(end, from + i, width);
		end += width;
		i += width;
	}
	return (__u64)(end - to);
}

static int arrow_fill_text(const core_column *c, arrow_output *o, const char *from, __u64 count, __u64 stride)
{
	__u64 used = (__u64)o->offsets[o->length], i;

	for (i = 0; i < count; i++, from += stride) {
		if (o->room - used < 3ull * c->size) {
			__u64 room = 2 * o->room + 3ull * c->size * (count - i < 4096 ? count - i : 4096);
			char *larger = realloc(o->data, room);

			if (!larger)
				return ENOMEM;
			o->data = larger;
			o->room = room;
		}
		used += arrow_text(o->data + used, from, c->size);
		o->offsets[++o->length] = (__s32)used;
	}
	return 0;
}

static int arrow_fill_enum(const core_column *c, arrow_output *o, const char *from, __u64 count, __u64 stride)
{
	__s32 *indices = (__s32 *)(void *)o->data + o->length;
	__u64 i;

	for (i = 0; i < count; i++, from += stride) {
		__s64 place = arrow_place(&o->places, arrow_integer(c, from));

		if (place < 0)
			return ENOMEM;
		indices[i] = (__s32)place;
	}
	o->length += count;
	return 0;
}

static int arrow_fill_list(const arrow_plan *plan, arrow_output *outputs, __u32 column, const char *from, __u64 count,
			   __u64 stride)
{
	__u32 elements = plan->columns[column].count, size = plan->columns[column + 1].size;
	int rc = 0;

	if (stride == (__u64)elements * size) { /* one list behind the other is one long list */
		elements = (__u32)(elements * count);
		count = count != 0;
	}
	for (; count && !rc; count--, from += stride)
		rc = arrow_fill(plan, outputs, column + 1, from, elements, size);
	return rc;
}

/* Append `count` elements, the first at `from`, to a column and all that is in it. */
static int arrow_fill(const arrow_plan *plan, arrow_output *outputs, __u32 column, const char *from, __u64 count,
		      __u64 stride)
{
	const core_column *c = &plan->columns[column];
	arrow_output *o = &outputs[column];
	__u32 next = column + 1;
	__u64 i;
	int rc;

	switch (c->kind) {
	case ARROW_STRUCT:
		for (i = 0; i < c->children; i++, next = arrow_behind(plan, next)) {
			rc = arrow_fill(plan, outputs, next, from + plan->columns[next].at, count, stride);
			if (rc)
				return rc;
		}
		break;
	case ARROW_LIST:
		rc = arrow_fill_list(plan, outputs, column, from, count, stride);
		if (rc)
			return rc;
		break;
	case ARROW_COPY:
		arrow_copy(o->data + o->length * c->size, from, count, stride, c->size);
		break;
	case ARROW_NUMBER:
		for (i = 0; i < count; i++, from += stride) {
			__u64 value = arrow_integer(c, from);

			memcpy(o->data + (o->length + i) * c->size, &value, c->size);
		}
		break;
	case ARROW_BOOL:
		for (i = 0; i < count; i++, from += stride)
			if (arrow_integer(c, from))
				o->data[(o->length + i) / 8] |= (char)(1 << (o->length + i) % 8);
		break;
	case ARROW_TEXT:
		return arrow_fill_text(c, o, from, count, stride);
	case ARROW_ENUM:
		return arrow_fill_enum(c, o, from, count, stride);
	default:
		return EINVAL;
	}
	o->length += count;
	return 0;
}

/* --- arrays ------------------------------------------------------------------------------------------- */

static void arrow_array_release(struct ArrowArray *array)
{
	int64_t i;

	/* Children that a consumer has moved elsewhere are marked released here, and freed there. */
	for (i = 0; i < array->n_children; i++) {
		struct ArrowArray *child = array->children[i];

		if (child && child->release)
			child->release(child);
		free(child);
	}
	if (array->dictionary && array->dictionary->release)
		array->dictionary->release(array->dictionary);
	free(array->dictionary);
	for (i = 0; i < array->n_buffers; i++)
		free((void *)(unsigned long)array->buffers[i]);
	free(array->buffers);
	free(array->children);
	array->release = 0;
}

/* An array without buffers. */
static int arrow_array_start(struct ArrowArray *array, __u64 length, __u32 children, __u32 buffers)
{
	memset(array, 0, sizeof(*array));
	array->release = arrow_array_release;
	array->length = (int64_t)length;
	array->buffers = calloc(buffers, sizeof(*array->buffers));
	array->children = calloc(children ? children : 1, sizeof(*array->children));
	if (!array->buffers || !array->children)
		return ENOMEM;
	array->n_buffers = buffers;
	return 0;
}

static int arrow_dictionary_make(struct ArrowArray *array, const core_column *c, arrow_places *p)
{
	__u64 named = arrow_names_size(c) - c->count, used = 0;
	__u32 total = c->count + p->unnamed_count, i;
	const char *name = c->names;
	__s32 *offsets;
	char *text;

	if (arrow_array_start(array, total, 0, 3))
		return ENOMEM;
	array->buffers[1] = offsets = malloc(4 * (total + 1ull));
	array->buffers[2] = text = malloc(named + 21ull * p->unnamed_count + 1);
	if (!offsets || !text)
		return ENOMEM;
	for (i = 0; i < total; i++) {
		offsets[i] = (__s32)used;
		if (i < c->count) {
			__u64 length = strlen(name);

			memcpy(text + used, name, length);
			used += length;
			name += length + 1;
		} else {
			__u64 value = p->unnamed[i - c->count];

			used += (__u64)(c->is_signed ? snprintf(text + used, 22, "%lld", (long long)value)
						     : snprintf(text + used, 22, "%llu", (unsigned long long)value));
		}
	}
	offsets[total] = (__s32)used;
	return 0;
}

/* Make an array of what a column has become, and hand it the memory. */
static int arrow_array_make(const arrow_plan *plan, arrow_output *outputs, __u32 column, struct ArrowArray *array)
{
	const core_column *c = &plan->columns[column];
	arrow_output *o = &outputs[column];
	__u32 next = column + 1, i;
	int rc = arrow_array_start(array, o->length, c->children,
				   c->kind == ARROW_TEXT ? 3 : c->kind == ARROW_STRUCT || c->kind == ARROW_LIST ? 1 : 2);

	if (rc)
		return rc;
	if (c->kind == ARROW_TEXT) {
		array->buffers[1] = o->offsets;
		array->buffers[2] = o->data;
		o->offsets = 0;
		o->data = 0;
	} else if (array->n_buffers == 2) {
		array->buffers[1] = o->data;
		o->data = 0;
	}
	for (i = 0; i < c->children && !rc; i++, next = arrow_behind(plan, next)) {
		array->n_children = i + 1;
		array->children[i] = calloc(1, sizeof(*array));
		rc = array->children[i] ? arrow_array_make(plan, outputs, next, array->children[i]) : ENOMEM;
	}
	if (!rc && c->kind == ARROW_ENUM) {
		array->dictionary = calloc(1, sizeof(*array));
		rc = array->dictionary ? arrow_dictionary_make(array->dictionary, c, &o->places) : ENOMEM;
	}
	return rc;
}

/* Memory for `count` elements of a column and all that is in it. */
static int arrow_reserve(const arrow_plan *plan, arrow_output *outputs, __u32 column, __u64 count)
{
	const core_column *c = &plan->columns[column];
	arrow_output *o = &outputs[column];
	__u32 next = column + 1, i;

	for (i = 0; i < c->children; i++, next = arrow_behind(plan, next))
		if (arrow_reserve(plan, outputs, next, c->kind == ARROW_LIST ? count * c->count : count))
			return ENOMEM;
	switch (c->kind) {
	case ARROW_STRUCT:
	case ARROW_LIST:
		return 0;
	case ARROW_BOOL:
		o->data = calloc(count / 8 + 8, 1);
		return o->data ? 0 : ENOMEM;
	case ARROW_TEXT:
		o->offsets = malloc(4 * (count + 1));
		o->data = malloc(1);
		if (!o->offsets || !o->data)
			return ENOMEM;
		o->offsets[0] = 0;
		return 0;
	case ARROW_ENUM:
		o->data = malloc(4 * count + 4);
		return o->data ? arrow_places_start(&o->places, c) : ENOMEM;
	default:
		o->data = malloc(count * c->size + 8);
		return o->data ? 0 : ENOMEM;
	}
}

#define ARROW_PIECE_BYTES 65536

static int arrow_array_of(const arrow_plan *plan, const char *records, __u64 count, __u32 size, struct ArrowArray *array)
{
	arrow_output *outputs = calloc(plan->count, sizeof(*outputs));
	__u64 piece = ARROW_PIECE_BYTES / size + 1, i;
	int rc = outputs ? arrow_reserve(plan, outputs, 0, count) : ENOMEM;

	memset(array, 0, sizeof(*array));
	for (i = 0; i < count && !rc; i += piece)
		rc = arrow_fill(plan, outputs, 0, records + i * size, count - i < piece ? count - i : piece, size);
	if (!rc) {
		rc = arrow_array_make(plan, outputs, 0, array);
		if (rc)
			arrow_array_release(array);
	}
	for (i = 0; outputs && i < plan->count; i++) {
		free(outputs[i].data);
		free(outputs[i].offsets);
		arrow_places_free(&outputs[i].places);
	}
	free(outputs);
	return rc;
}

/* --- streams ------------------------------------------------------------------------------------------ */

typedef struct {
	arrow_plan *plan;
	char *records; /* held */
	__u64 next, count, batch;
	__u32 size;
	int failed;
} arrow_source;

static int arrow_get_schema(struct ArrowArrayStream *stream, struct ArrowSchema *schema)
{
	arrow_source *source = stream->private_data;

	return source->failed = arrow_schema_of(source->plan, schema);
}

static int arrow_get_next(struct ArrowArrayStream *stream, struct ArrowArray *array)
{
	arrow_source *source = stream->private_data;
	__u64 left = source->count - source->next, count = left < source->batch ? left : source->batch;

	memset(array, 0, sizeof(*array));
	source->failed = 0;
	if (count)
		source->failed = arrow_array_of(source->plan, source->records + source->next * source->size, count,
						source->size, array);
	if (!source->failed)
		source->next += count;
	return source->failed;
}

static const char *arrow_get_last_error(struct ArrowArrayStream *stream)
{
	const arrow_source *source = stream->private_data;

	return source->failed ? "no memory for Arrow columns" : 0;
}

static void arrow_stream_release(struct ArrowArrayStream *stream)
{
	arrow_source *source = stream->private_data;

	arrow_plan_free(source->plan);
	core_block_release(source->records);
	free(source);
	stream->release = 0;
}

/* A schema of columns, or NULL: no memory. Its memory is the capsule's. */
static void *core_arrow_schema(const core_column *columns, __u32 count)
{
	struct ArrowSchema *schema = calloc(1, sizeof(*schema));
	arrow_plan *plan = arrow_plan_copy(columns, count);
	int rc = schema && plan ? arrow_schema_of(plan, schema) : ENOMEM;

	arrow_plan_free(plan);
	if (!rc)
		return schema;
	free(schema);
	return 0;
}

/* A stream of `count` records in batches, or NULL: no memory. It holds the block. */
static void *core_arrow_stream(const core_column *columns, __u32 nodes, char *records, __u64 count, __u32 size,
			       __u64 batch)
{
	struct ArrowArrayStream *stream = calloc(1, sizeof(*stream));
	arrow_source *source = calloc(1, sizeof(*source));
	arrow_plan *plan = arrow_plan_copy(columns, nodes);

	if (!stream || !source || !plan) {
		free(stream);
		free(source);
		arrow_plan_free(plan);
		return 0;
	}
	core_block_hold(records);
	source->plan = plan;
	source->records = records;
	source->count = count;
	source->batch = batch;
	source->size = size;
	stream->get_schema = arrow_get_schema;
	stream->get_next = arrow_get_next;
	stream->get_last_error = arrow_get_last_error;
	stream->release = arrow_stream_release;
	stream->private_data = source;
	return stream;
}

/* Destructors of capsules: consumers that take what is in one mark it released. */
static void core_arrow_schema_end(void *capsule)
{
	struct ArrowSchema *schema = PyCapsule_GetPointer(capsule, "arrow_schema");

	if (schema && schema->release)
		schema->release(schema);
	free(schema);
}

static void core_arrow_stream_end(void *capsule)
{
	struct ArrowArrayStream *stream = PyCapsule_GetPointer(capsule, "arrow_array_stream");

	if (stream && stream->release)
		stream->release(stream);
	free(stream);
}
