// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/*
 * A livepatch of klp_target that uses what klp_target does not export: a static variable, by the code and by a pointer
 * in its data, and a static function; and a text and a function of the kernel proper that are not exported.
 */
#include "klp_patch.h"

extern int KLP_SYMBOL(klp_target, klp_target_secret);
extern int KLP_SYMBOL(klp_target, klp_target_twice)(int value);
extern int KLP_SYMBOL(vmlinux, nr_processes)(void);
extern const char KLP_SYMBOL(vmlinux, linux_banner)[];
KLP_UNRESOLVED(klp_target, klp_target_secret);
KLP_UNRESOLVED(klp_target, klp_target_twice);
KLP_UNRESOLVED(vmlinux, nr_processes);
KLP_UNRESOLVED(vmlinux, linux_banner);

static int *pointer = &KLP_SYMBOL(klp_target, klp_target_secret);

static char text[80];

/* Data only: a reference left alone reads something else, a call left alone goes wherever it goes. */
static const char *klp_relocated_name(void)
{
	scnprintf(text, sizeof(text), "secret %d, by pointer %d", KLP_SYMBOL(klp_target, klp_target_secret),
		  READ_ONCE(pointer) ? *READ_ONCE(pointer) : -1);
	return text;
}

static const char *klp_relocated_other(void)
{
	scnprintf(text, sizeof(text), "twice %d",
		  KLP_SYMBOL(klp_target, klp_target_twice)(KLP_SYMBOL(klp_target, klp_target_secret)));
	return text;
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_target_name", .new_func = klp_relocated_name },
	{ .old_name = "klp_target_other", .new_func = klp_relocated_other },
	{ }
};

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 8, 0)
/* Relocations to the kernel proper are written with the patch of the kernel proper; later, when the module is loaded. */
static struct klp_func no_funcs[] = { { } };
#define KERNEL_PROPER { .funcs = no_funcs },
#else
#define KERNEL_PROPER
#endif

static struct klp_object objects[] = {
	KERNEL_PROPER
	{ .name = "klp_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int banner_get(char *buffer, const struct kernel_param *unused)
{
	return harness_emit(buffer, "%s", KLP_SYMBOL(vmlinux, linux_banner));
}

static int processes_get(char *buffer, const struct kernel_param *unused)
{
	return harness_emit(buffer, "%d\n", KLP_SYMBOL(vmlinux, nr_processes)());
}

static const struct kernel_param_ops banner_ops = { .get = banner_get };
static const struct kernel_param_ops processes_ops = { .get = processes_get };
module_param_cb(banner, &banner_ops, NULL, 0444);
MODULE_PARM_DESC(banner, "the kernel's linux_banner, which is not exported");
module_param_cb(processes, &processes_ops, NULL, 0444);
MODULE_PARM_DESC(processes, "what the kernel's nr_processes() says, which is not exported");

KLP_MODULE("livepatch with livepatch relocations");
MODULE_LICENSE("GPL");
