// SPDX-License-Identifier: GPL-2.0-or-later
// The request the calling thread is serving. libfuse hands a callback only part of what the kernel
// sent (no kill-suid bits, no payload ownership) and takes only part of what can be answered, so
// the callbacks look here. Valid from receive to reply; replies are given before a callback ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "data/buffer.h"
#include "fuse/protocol.h"

namespace stablefs {

struct Request {
  const fuse_in_header* header = nullptr;
  std::span<const std::byte> arguments;  // everything behind the header
  BufferSlice payload;                   // WRITE: the data, page-aligned; else empty
  std::span<std::byte> reply_memory;     // page-aligned, kMaxWriteBytes: READ, READDIR answers
  uint32_t setxattr_flags = 0;           // SETXATTR: those libfuse does not know
  uint32_t extra_open_flags = 0;         // put into the reply of OPEN and CREATE
  bool unnamed = false;                  // a CREATE that was a TMPFILE
  bool succeeded = false;                // a reply without error has reached the kernel

  // The arguments as the protocol's struct; nullptr when the kernel sent less than that.
  template <class T>
  const T* arguments_as() const {
    if (arguments.size() < sizeof(T)) return nullptr;
    return reinterpret_cast<const T*>(arguments.data());
  }
};

// Null outside of serving.
Request* current_request();

// Makes `request` the thread's current one while it lives.
class ServingRequest {
 public:
  explicit ServingRequest(Request& request);
  ~ServingRequest();
  ServingRequest(const ServingRequest&) = delete;
  ServingRequest& operator=(const ServingRequest&) = delete;
};

}  // namespace stablefs
