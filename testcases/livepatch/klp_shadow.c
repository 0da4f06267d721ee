// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/*
 * Shadow variables, on request: a line written to "call" says what to do, a read of it what came of it. Objects are
 * numbers that stand for addresses: nothing is read or written there. Each variable holds a number and 56 bytes more.
 *
 * What is left when the module goes stays: they are the kernel's.
 */
#include <linux/livepatch.h>

#include "harness_test.h"

struct shadow {
	unsigned long number;
	char rest[56];
};

static char answer[PAGE_SIZE];
static size_t answered;

#define say(...) (answered += scnprintf(answer + answered, sizeof(answer) - answered, __VA_ARGS__))

/* Keeps the number that ctor_data points to; 0 is refused. */
static int construct(void *obj, void *shadow_data, void *ctor_data)
{
	struct shadow *shadow = shadow_data;
	unsigned long number = *(unsigned long *)ctor_data;

	say("ctor(%lu, %lu) ", (unsigned long)obj, number);
	shadow->number = number;
	return number ? 0 : -EINVAL;
}

static void destruct(void *obj, void *shadow_data)
{
	struct shadow *shadow = shadow_data;

	say("dtor(%lu, %lu) ", (unsigned long)obj, shadow->number);
}

static void tell(struct shadow *shadow)
{
	if (!shadow)
		say("none");
	else if (memchr_inv(shadow->rest, 0, sizeof(shadow->rest)))
		say("%lu, and the rest is not zero", shadow->number);
	else
		say("%lu", shadow->number);
}

/* Attach `count` variables, ids 1 to 3 of objects from `first` on, and see that each is found again as it was. */
static void many(unsigned long first, unsigned long count)
{
	unsigned long i, wrong = 0;
	struct shadow *shadow;

	for (i = 0; i < count; i++) {
		shadow = klp_shadow_alloc((void *)(first + i / 3), i % 3 + 1, sizeof(*shadow), GFP_KERNEL, NULL, NULL);
		if (!shadow || shadow->number)
			wrong++;
		else
			shadow->number = i;
	}
	for (i = 0; i < count; i++) {
		shadow = klp_shadow_get((void *)(first + i / 3), i % 3 + 1);
		if (!shadow || shadow->number != i)
			wrong++;
	}
	say("%lu wrong", wrong);
}

static int call_store(char *line)
{
	unsigned long obj = 0, id = 0, number = 0;
	char verb[16];

	if (sscanf(line, "%15s %lu %lu %lu", verb, &obj, &id, &number) < 2)
		return -EINVAL;
	answered = 0;
	answer[0] = '\0';
	if (!strcmp(verb, "get"))
		tell(klp_shadow_get((void *)obj, id));
	else if (!strcmp(verb, "alloc"))
		tell(klp_shadow_alloc((void *)obj, id, sizeof(struct shadow), GFP_KERNEL, construct, &number));
	else if (!strcmp(verb, "plain"))
		tell(klp_shadow_alloc((void *)obj, id, sizeof(struct shadow), GFP_KERNEL, NULL, NULL));
	else if (!strcmp(verb, "get_or_alloc"))
		tell(klp_shadow_get_or_alloc((void *)obj, id, sizeof(struct shadow), GFP_KERNEL, construct, &number));
	else if (!strcmp(verb, "free"))
		klp_shadow_free((void *)obj, id, destruct);
	else if (!strcmp(verb, "free_all"))
		klp_shadow_free_all(obj, destruct);
	else if (!strcmp(verb, "drop_all"))
		klp_shadow_free_all(obj, NULL);
	else if (!strcmp(verb, "many"))
		many(obj, id);
	else
		return -EINVAL;
	return 0;
}

static int call_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%s\n", strim(answer));
	return 0;
}

static const struct harness_file files[] = {
	{ "call", call_show, call_store },
	{ }
};

static int __init klp_shadow_init(void)
{
	return harness_files(files);
}

static void __exit klp_shadow_exit(void)
{
	harness_files_remove();
}

module_init(klp_shadow_init);
module_exit(klp_shadow_exit);
MODULE_DESCRIPTION("shadow variables on request");
MODULE_LICENSE("GPL");
