// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/*
 * What klp_caller patches, and hold_sleep() of the module hold too: a task that is held there can't be switched before
 * it is let go.
 */
#include "klp_patch.h"

static int klp_hold_caller(int (*callee)(void))
{
	int got = callee();

	return got < 0 ? got : got + 3000;
}

static const char *klp_hold_name(void)
{
	return KBUILD_MODNAME;
}

static void klp_hold_sleep(void)
{
}

static struct klp_func target_funcs[] = {
	{ .old_name = "klp_target_caller", .new_func = klp_hold_caller },
	{ .old_name = "klp_target_name", .new_func = klp_hold_name },
	{ }
};

static struct klp_func hold_funcs[] = {
	{ .old_name = "hold_sleep", .new_func = klp_hold_sleep },
	{ }
};

static struct klp_object objects[] = {
	{ .name = "klp_target", .funcs = target_funcs },
	{ .name = "hold", .funcs = hold_funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

KLP_MODULE("livepatch of what tasks sleep in, in klp_target and in hold");
MODULE_LICENSE("GPL");
