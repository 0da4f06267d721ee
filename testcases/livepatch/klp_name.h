/* SPDX-License-Identifier: GPL-2.0-only */
/* The body of the livepatches klp_first, klp_second, klp_third: each makes klp_target say its own name. */
#include "klp_patch.h"

static const char *klp_name_name(void)
{
	return KBUILD_MODNAME;
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_target_name", .new_func = klp_name_name },
#ifdef KLP_OTHER_TOO
	{ .old_name = "klp_target_other", .new_func = klp_name_name },
#endif
	{ }
};

static struct klp_object objects[] = {
	{ .name = "klp_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "take the place of all livepatches there are");

static int __init klp_name_init(void)
{
	return harness_set_replace(&patch, replace) ?: harness_enable_patch(&patch);
}

static void __exit klp_name_exit(void)
{
	harness_forget_patch(&patch);
}

module_init(klp_name_init);
module_exit(klp_name_exit);
KLP_MODULE_INFO("livepatch of klp_target_name");
