// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/* Replaces functions of the module hammer with others that give the same results; runs: how often they ran. */
#include "harness_livepatch.h"

static atomic64_t runs;

static int get_runs(char *buffer, const struct kernel_param *unused)
{
	return sprintf(buffer, "%lld\n", (long long)atomic64_read(&runs));
}

static const struct kernel_param_ops runs_ops = { .get = get_runs };
module_param_cb(runs, &runs_ops, NULL, 0400);

static u64 klp_hammer_add(u64 a, u64 b)
{
	atomic64_inc(&runs);
	return b + a;
}

static u64 klp_hammer_inner(u64 value)
{
	atomic64_inc(&runs);
	return value + value;
}

static struct klp_func funcs[] = {
	{ .old_name = "hammer_add", .new_func = klp_hammer_add },
	{ .old_name = "hammer_inner", .new_func = klp_hammer_inner },
	{ }
};

static struct klp_object objects[] = {
	{ .name = "hammer", .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init klp_hammer_start(void)
{
	return harness_enable_patch(&patch);
}

static void __exit klp_hammer_stop(void)
{
	harness_forget_patch(&patch);
}

module_init(klp_hammer_start);
module_exit(klp_hammer_stop);
MODULE_DESCRIPTION("livepatch of the functions that hammer calls");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
