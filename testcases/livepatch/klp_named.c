// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/* A livepatch of a function named when it is inserted; its replacement is good for what shows a device's attribute. */
#include <linux/device.h>
#include <linux/sysfs.h>

#include "klp_patch.h"

static char *object;
module_param(object, charp, 0444);
MODULE_PARM_DESC(object, "the module; none for the kernel proper");

static char *function;
module_param(function, charp, 0444);

static unsigned long position;
module_param(position, ulong, 0444);
MODULE_PARM_DESC(position, "which of several of that name, in the order of their addresses; 0: there is only one");

static ssize_t klp_named_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return harness_emit(buf, "patched by klp_named\n");
}

static struct klp_func funcs[] = {
	{ .new_func = klp_named_show },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init klp_named_init(void)
{
	objects[0].name = object;
	funcs[0].old_name = function;
	funcs[0].old_sympos = position;
	return harness_enable_patch(&patch);
}

static void __exit klp_named_exit(void)
{
	harness_forget_patch(&patch);
}

module_init(klp_named_init);
module_exit(klp_named_exit);
KLP_MODULE_INFO("livepatch of a function named when it is inserted");
MODULE_LICENSE("GPL");
