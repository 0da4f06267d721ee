// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/* Replaces functions of the module calls with others that give the same results; runs: how often they ran. */
#include "harness_livepatch.h"

#define hide(variable) asm volatile("" : "+r"(variable))

struct eight {
	u64 word[8];
};

static unsigned int runs;
module_param(runs, uint, 0400);

static struct eight klp_args(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h)
{
	struct eight result;

	runs++;
	result = (struct eight){ { a, b, c, d, e, f, g, h } };
	return result;
}

static u64 klp_stack_args(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j)
{
	runs++;
	return a + 3 * b + 5 * c + 7 * d + 11 * e + 13 * f + 17 * g + 19 * h + 23 * i + 29 * j;
}

static u64 klp_varargs(int count, ...)
{
	u64 sum = 0;
	va_list list;
	int i;

	runs++;
	va_start(list, count);
	for (i = 1; i <= count; i++)
		sum += i * va_arg(list, u64);
	va_end(list);
	return sum;
}

static u64 klp_saved(u64 value)
{
	runs++;
	hide(value);
	return value ^ 0xffff;
}

static u64 klp_tree_leaf(u64 value)
{
	runs++;
	hide(value);
	return value + 1;
}

static struct klp_func funcs[] = {
	{ .old_name = "calls_args", .new_func = klp_args },
	{ .old_name = "calls_stack_args", .new_func = klp_stack_args },
	{ .old_name = "calls_varargs", .new_func = klp_varargs },
	{ .old_name = "calls_saved", .new_func = klp_saved },
	{ .old_name = "calls_tree_leaf", .new_func = klp_tree_leaf },
	{ }
};

static struct klp_object objects[] = {
	{ .name = "calls", .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init klp_calls_start(void)
{
	return harness_enable_patch(&patch);
}

static void __exit klp_calls_stop(void)
{
	harness_forget_patch(&patch);
}

module_init(klp_calls_start);
module_exit(klp_calls_stop);
MODULE_DESCRIPTION("livepatch of functions of the module calls");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
