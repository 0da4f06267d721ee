// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/* A livepatch of klp_target_caller, the caller of a function that sleeps, and of klp_target_name. */
#include "klp_patch.h"

static int klp_caller_caller(int (*callee)(void))
{
	int got = callee();

	return got < 0 ? got : got + 2000;
}

static const char *klp_caller_name(void)
{
	return KBUILD_MODNAME;
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_target_caller", .new_func = klp_caller_caller },
	{ .old_name = "klp_target_name", .new_func = klp_caller_name },
	{ }
};

static struct klp_object objects[] = {
	{ .name = "klp_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

KLP_MODULE("livepatch of klp_target_caller and klp_target_name");
MODULE_LICENSE("GPL");
