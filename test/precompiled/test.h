// SPDX-License-Identifier: GPL-2.0-or-later
// Precompiled: what nearly every test includes.
#include <catch2/catch.hpp>
#include <random>

#include "base/precompiled/common.h"
