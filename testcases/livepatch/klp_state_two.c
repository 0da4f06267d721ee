// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
// harness: since 5.5 (system state of livepatches)
/* One of two livepatches that change the same state of the system. */
#include "klp_state.h"
MODULE_LICENSE("GPL");
