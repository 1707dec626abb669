// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/session.h"

#include <errno.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "fuse/init_reply.h"

namespace stablefs {
namespace {

constexpr size_t kKeptBuffers = 64;
constexpr size_t kMessageOffset = kPayloadOffset - kWriteHeaderBytes;

// What the library cannot say in a reply is put in on its way out.
void complete_reply(const Request& request, iovec* parts, int count) {
  if (count < 2) return;
  switch (request.header->opcode) {
    case FUSE_INIT: {
      const auto* in = request.arguments_as<fuse_init_in>();
      if (in == nullptr || parts[1].iov_len < sizeof(fuse_init_out)) return;
      complete_init_reply(*in, *static_cast<fuse_init_out*>(parts[1].iov_base));
      return;
    }
    case FUSE_OPEN:
    case FUSE_CREATE: {
      // Both end in a fuse_open_out.
      if (parts[1].iov_len < sizeof(fuse_open_out)) return;
      std::byte* const end = static_cast<std::byte*>(parts[1].iov_base) + parts[1].iov_len;
      reinterpret_cast<fuse_open_out*>(end - sizeof(fuse_open_out))->open_flags |=
          request.extra_open_flags;
      return;
    }
    default:
      return;
  }
}

ssize_t write_parts(int descriptor, iovec* parts, int count, void*) {
  Request* const request = current_request();
  const auto* header = static_cast<const fuse_out_header*>(parts[0].iov_base);
  // Notifications have no `unique` and are not answers to the request.
  const bool answer = request != nullptr && header->unique == request->header->unique;
  if (answer && header->error == 0) complete_reply(*request, parts, count);
  const ssize_t written = ::writev(descriptor, parts, count);
  if (answer && header->error == 0 && written >= 0) request->succeeded = true;
  return written;
}

// Requests that move much data or wait for the device by nature are long.
RequestWorker::Received kind_of(const fuse_in_header& header) {
  using Received = RequestWorker::Received;
  constexpr uint32_t kMuchData = 64 << 10;
  switch (header.opcode) {
    case FUSE_DESTROY:
      return Received::exclusive;
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_SYNCFS:
    case FUSE_COPY_FILE_RANGE:
    case kOpcodeCopyFileRange64:
      return Received::long_request;
    case FUSE_READ: {
      const auto* in = reinterpret_cast<const fuse_read_in*>(&header + 1);
      const bool much = header.len >= kHeaderBytes + sizeof *in && in->size >= kMuchData;
      return much ? Received::long_request : Received::short_request;
    }
    default:
      return header.len >= kMuchData ? Received::long_request : Received::short_request;
  }
}

// Those that wait for the device, for space, or for others at work on the same bytes.
bool may_wait(uint32_t opcode) {
  switch (opcode) {
    case FUSE_READ:
    case FUSE_WRITE:
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_SYNCFS:
    case FUSE_SETATTR:
    case FUSE_OPEN:
    case FUSE_FALLOCATE:
    case FUSE_LSEEK:
    case FUSE_COPY_FILE_RANGE:
    case kOpcodeCopyFileRange64:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
      return true;
    default:
      return false;
  }
}

ssize_t read_unused(int, void*, size_t, void*) {
  errno = ENOSYS;
  return -1;
}

}  // namespace

// One thread's part: its receive buffer. A READ's answer is built where a WRITE's payload would
// be, so one buffer serves both.
class Session::Worker final : public RequestWorker {
 public:
  explicit Worker(Session& session) : session_(session) {}

  Received receive() override {
    if (!buffer_) buffer_ = session_.pool_.take();
    memory_ = BufferSlice(buffer_, 0, buffer_->size()).writable();
    return session_.receive(memory_.subspan(kMessageOffset), length_);
  }

  bool may_wait() const override {
    return stablefs::may_wait(
        reinterpret_cast<const fuse_in_header*>(memory_.data() + kMessageOffset)->opcode);
  }
  std::unique_ptr<SetAside> set_aside() override {
    auto parcel = std::make_unique<Parcel>();
    parcel->buffer = std::move(buffer_);
    parcel->length = length_;
    return parcel;
  }
  void take(std::unique_ptr<SetAside> given) override {
    auto& parcel = static_cast<Parcel&>(*given);
    buffer_ = std::move(parcel.buffer);
    length_ = parcel.length;
    memory_ = BufferSlice(buffer_, 0, buffer_->size()).writable();
  }

  void serve() override {
    std::byte* const message = memory_.data() + kMessageOffset;
    Request request;
    request.header = reinterpret_cast<const fuse_in_header*>(message);
    request.arguments = {message + kHeaderBytes, length_ - kHeaderBytes};
    if (request.header->opcode == FUSE_WRITE && length_ > kWriteHeaderBytes) {
      request.payload = BufferSlice(buffer_, kPayloadOffset, length_ - kWriteHeaderBytes);
    }
    request.reply_memory = memory_.subspan(kPayloadOffset, kMaxWriteBytes);
    const bool shared = static_cast<bool>(request.payload);
    {
      const ServingRequest serving(request);
      session_.serve(request, message, length_);
    }
    // The core may have adopted the payload. If it has not, the pool hands the same buffer out
    // again next.
    if (shared) buffer_.reset();
  }

 private:
  struct Parcel final : SetAside {
    std::shared_ptr<Buffer> buffer;
    size_t length = 0;
  };

  Session& session_;
  std::shared_ptr<Buffer> buffer_;
  std::span<std::byte> memory_;
  size_t length_ = 0;
};

Result<std::unique_ptr<Session>> Session::create(Adapter& adapter, int fuse_descriptor,
                                                 const WorkerPoolOptions& workers, Logger& logger) {
  std::unique_ptr<Session> session(new Session(adapter, fuse_descriptor, workers, logger));
  FS_TRY(session->create_library_session());
  return session;
}

Session::Session(Adapter& adapter, int fuse_descriptor, const WorkerPoolOptions& workers,
                 Logger& logger)
    : adapter_(adapter),
      logger_(logger),
      fuse_descriptor_(fuse_descriptor),
      ended_descriptor_(::eventfd(0, EFD_CLOEXEC)),
      pool_(kKeptBuffers),
      workers_(workers, [this] { return std::make_unique<Worker>(*this); }) {}

Session::~Session() {
  workers_.join();
  adapter_.stale_times().stop();
  adapter_.set_attribute_invalidator({});
  adapter_.set_inode_pruner({});
  adapter_.set_cache_taker({});
  // Closes the descriptor too, once the library has been given it.
  if (library_ != nullptr) {
    fuse_session_destroy(library_);
  } else {
    ::close(fuse_descriptor_);
  }
  if (ended_descriptor_ >= 0) ::close(ended_descriptor_);
}

Status Session::create_library_session() {
  if (ended_descriptor_ < 0) return Error(ErrorCode::fuse_session, std::strerror(errno));
  char name[] = "stablefs";
  char* arguments[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  const fuse_lowlevel_ops& operations = Adapter::operations();
  library_ = fuse_session_new(&args, &operations, sizeof operations, &adapter_);
  fuse_opt_free_args(&args);
  if (library_ == nullptr) return ErrorCode::fuse_session;
  fuse_custom_io io{};
  io.writev = write_parts;
  io.read = read_unused;  // demanded by the library, which never reads here
  if (const int error = fuse_session_custom_io(library_, &io, fuse_descriptor_); error != 0) {
    fuse_session_destroy(std::exchange(library_, nullptr));
    return Error(ErrorCode::fuse_session, std::strerror(-error));
  }
  adapter_.set_attribute_invalidator([library = library_](Ino ino) {
    // A negative offset leaves the pages alone. That the kernel does not know the inode is no
    // failure.
    fuse_lowlevel_notify_inval_inode(library, ino.value, -1, 0);
  });
  adapter_.set_inode_pruner([this](Ino ino) { prune(ino); });
  // All pages: what is dirty is written first. No request may be held meanwhile that the kernel has
  // a page locked for; SEEK is none.
  adapter_.set_cache_taker([library = library_](Ino ino) {
    return fuse_lowlevel_notify_inval_inode(library, ino.value, 0, 0) == 0;
  });
  return {};
}

void Session::prune(Ino ino) {
  fuse_out_header header{};
  NotifyPruneOut prune{};
  prune.count = 1;
  uint64_t node = ino.value;
  header.len = sizeof header + sizeof prune + sizeof node;
  header.error = kNotifyPrune;
  iovec parts[3] = {{&header, sizeof header}, {&prune, sizeof prune}, {&node, sizeof node}};
  // A kernel that does not know this keeps the inode until it has no use for it.
  [[maybe_unused]] const ssize_t written = ::writev(fuse_descriptor_, parts, 3);
}

Status Session::start(uint32_t wait_ms_max) {
  workers_.start();
  SystemClock clock;
  const uint64_t deadline_ns = clock.monotonic_ns() + wait_ms_max * kNsPerMs;
  MutexLock lock(mutex_);
  while (!initialised_ && !over_) {
    if (!changed_.wait_until(mutex_, clock, deadline_ns)) break;
  }
  if (!initialised_) return Error(ErrorCode::fuse_session, "the kernel did not begin to talk");
  return {};
}

Session::End Session::wait() {
  workers_.join();
  return destroyed_.load() ? End::destroyed : End::disconnected;
}

RequestWorker::Received Session::receive(std::span<std::byte> memory, size_t& length) {
  using Received = RequestWorker::Received;
  if (destroyed_.load()) {
    end();
    return Received::ended;
  }
  const ssize_t received = ::read(fuse_descriptor_, memory.data(), memory.size());
  if (received < 0) {
    // ENOENT: the request was taken back while it was handed out.
    if (errno == EINTR || errno == EAGAIN || errno == ENOENT) return Received::nothing;
    // ENODEV is the end of the connection; EPERM: it never began.
    if (errno != ENODEV && errno != EPERM) {
      logger_.write(LogLevel::error,
                    fmt::format("reading requests failed: {}", std::strerror(errno)));
    }
    end();
    return Received::ended;
  }
  length = static_cast<size_t>(received);
  const auto* header = reinterpret_cast<const fuse_in_header*>(memory.data());
  if (length < kHeaderBytes || header->len != length) {
    logger_.write(LogLevel::error, fmt::format("received a request of {} bytes", length));
    return Received::nothing;
  }
  return kind_of(*header);
}

void Session::serve(Request& request, std::byte* message, size_t length) {
  const fuse_in_header& header = *request.header;
  adapter_.count(header.opcode);
  switch (header.opcode) {
    case FUSE_INIT:
      pass_to_library(message, length);
      if (request.succeeded) {
        const auto* in = request.arguments_as<fuse_init_in>();
        setxattr_extended_ = in != nullptr && (offered_init_flags(*in) & kInitSetxattrExt) != 0;
        set_initialised();
      }
      return;
    case FUSE_SETXATTR:
      if (setxattr_extended_) return pass_setxattr(request, message, length);
      pass_to_library(message, length);
      return;
    case FUSE_SYNCFS: {
      const Status status = adapter_.sync_all();
      reply(header.unique, status.ok() ? 0 : status.error().errno_value());
      return;
    }
    case kOpcodeTmpfile:
      // The same arguments and answer as CREATE, which the library knows.
      request.unnamed = true;
      reinterpret_cast<fuse_in_header*>(message)->opcode = FUSE_CREATE;
      pass_to_library(message, length);
      return;
    case kOpcodeStatx: {
      const Result<StatxOut> out = adapter_.statx(Ino(header.nodeid));
      if (!out.ok()) return reply(header.unique, out.error().errno_value());
      return reply(header.unique, 0, std::as_bytes(std::span(&*out, 1)));
    }
    case kOpcodeCopyFileRange64:
      return copy_file_range(request);
    case FUSE_DESTROY:
      // umount(2) returns when this is answered, so what it promises comes first.
      adapter_.destroy();
      destroyed_.store(true);
      pass_to_library(message, length);
      return;
    default:
      pass_to_library(message, length);
      return;
  }
}

void Session::copy_file_range(const Request& request) {
  const fuse_in_header& header = *request.header;
  const auto* in = request.arguments_as<fuse_copy_file_range_in>();
  if (in == nullptr) return reply(header.unique, EIO);
  const auto copied = adapter_.copy_file_range({Ino(header.nodeid), in->fh_in, in->off_in},
                                               {Ino(in->nodeid_out), in->fh_out, in->off_out},
                                               in->len, in->flags, Caller(header));
  if (!copied.ok()) return reply(header.unique, copied.error().errno_value());
  const CopyFileRangeOut out{*copied};
  reply(header.unique, 0, std::as_bytes(std::span(&out, 1)));
}

void Session::pass_to_library(std::byte* message, size_t length) {
  fuse_buf buffer{};
  buffer.mem = message;
  buffer.size = length;
  fuse_session_process_buf(library_, &buffer);
}

// The library knows the short form only: what is in front of the flags that are too much moves up
// to them.
void Session::pass_setxattr(Request& request, std::byte* message, size_t length) {
  constexpr size_t kExcess = sizeof(fuse_setxattr_in) - FUSE_COMPAT_SETXATTR_IN_SIZE;
  const auto* in = request.arguments_as<fuse_setxattr_in>();
  if (in == nullptr) return reply(request.header->unique, EIO);
  request.setxattr_flags = in->setxattr_flags;
  std::memmove(message + kExcess, message, kHeaderBytes + FUSE_COMPAT_SETXATTR_IN_SIZE);
  auto* header = reinterpret_cast<fuse_in_header*>(message + kExcess);
  header->len -= kExcess;
  request.header = header;
  request.arguments = request.arguments.subspan(kExcess);
  pass_to_library(message + kExcess, length - kExcess);
}

void Session::reply(uint64_t unique, int error, std::span<const std::byte> body) {
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + body.size());
  header.error = -error;
  header.unique = unique;
  iovec parts[2] = {{&header, sizeof header}, {const_cast<std::byte*>(body.data()), body.size()}};
  // An error means that the asker is gone.
  [[maybe_unused]] const ssize_t written =
      write_parts(fuse_descriptor_, parts, body.empty() ? 1 : 2, nullptr);
}

void Session::set_initialised() {
  MutexLock lock(mutex_);
  initialised_ = true;
  changed_.notify_all();
}

void Session::end() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(ended_descriptor_, &one, sizeof one);
  MutexLock lock(mutex_);
  over_ = true;
  changed_.notify_all();
}

}  // namespace stablefs
