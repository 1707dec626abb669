// SPDX-License-Identifier: GPL-2.0-or-later
// FS_ASSERT checks our own logic and stays on in release builds: a broken invariant must stop the
// daemon before it can write. Input (disk, requests, options) is validated, never asserted.
#pragma once

namespace stablefs {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line,
                                   const char* function);
// Printed with a failed assertion of the calling thread, e.g. the seed of a simulation. The text
// must outlive the thread's use of it; null: nothing.
void set_assertion_context(const char* text);
}  // namespace stablefs

#define FS_ASSERT(expression)          \
  (__builtin_expect(!!(expression), 1) \
       ? static_cast<void>(0)          \
       : ::stablefs::assertion_failed(#expression, __FILE__, __LINE__, __func__))
