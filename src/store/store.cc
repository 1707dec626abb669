// SPDX-License-Identifier: GPL-2.0-or-later
// Opening, closing, reading, state. The rest: commit.cc, checkpoint.cc, recovery.cc, space.cc.
#include "store/store.h"

#include "store/store_impl.h"

namespace stablefs {

// --- promises handed out

SpaceReservation& SpaceReservation::operator=(SpaceReservation&& other) noexcept {
  if (this != &other) {
    release();
    store_ = std::exchange(other.store_, nullptr);
    blocks_ = std::exchange(other.blocks_, 0);
  }
  return *this;
}

void SpaceReservation::release() {
  if (store_ != nullptr && blocks_ != 0) store_->release_space(blocks_);
  store_ = nullptr;
  blocks_ = 0;
}

SpaceReservation SpaceReservation::split(uint64_t blocks) {
  FS_ASSERT(blocks <= blocks_);
  blocks_ -= blocks;
  return SpaceReservation(store_, blocks);
}

void SpaceReservation::merge(SpaceReservation&& other) {
  if (store_ == nullptr) store_ = other.store_;
  blocks_ += std::exchange(other.blocks_, 0);
  other.store_ = nullptr;
}

JournalReservation& JournalReservation::operator=(JournalReservation&& other) noexcept {
  if (this != &other) {
    release();
    store_ = std::exchange(other.store_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void JournalReservation::release() {
  if (store_ != nullptr && bytes_ != 0) store_->release_journal(bytes_);
  store_ = nullptr;
  bytes_ = 0;
}

ReadPin& ReadPin::operator=(ReadPin&& other) noexcept {
  if (this != &other) {
    release();
    store_ = std::exchange(other.store_, nullptr);
    epoch_ = other.epoch_;
  }
  return *this;
}

void ReadPin::release() {
  if (store_ != nullptr) store_->release_pin(epoch_);
  store_ = nullptr;
}

// --- opening and closing

Result<std::unique_ptr<Store>> Store::open(BlockDevice& device, const StoreOptions& options) {
  FS_ASSERT(options.clock != nullptr);
  FS_ASSERT(options.logger != nullptr);
  DiskSuperblock superblock = FS_TRY(read_superblock(device));
  auto store = std::make_unique<StoreImpl>(device, options, superblock);
  FS_TRY(store->recover());
  return std::unique_ptr<Store>(std::move(store));
}

StoreImpl::StoreImpl(BlockDevice& device, const StoreOptions& options,
                     const DiskSuperblock& superblock)
    : device_(device),
      options_(options),
      own_health_(options.health != nullptr
                      ? nullptr
                      : std::make_unique<Health>(
                            HealthOptions{.clock = options.clock, .logger = options.logger})),
      health_(options.health != nullptr ? *options.health : *own_health_),
      superblock_(superblock),
      latest_(superblock),
      dirty_node_limit_(superblock.dirty_node_limit),
      copies_(superblock.copies),
      tree_(Generation(superblock.generation + 1), from_disk(superblock.root),
            superblock.root_level),
      space_(superblock.block_count) {}

StoreImpl::~StoreImpl() {
  stop(ErrorCode::shut_down);
  join_threads();
}

void StoreImpl::join_threads() {
  if (background_thread_.joinable()) background_thread_.join();
  if (discard_thread_.joinable()) discard_thread_.join();
}

Status StoreImpl::close() {
  Status status;
  if (!options_.read_only) {
    status = sync(last_sequence());
    if (status.ok()) status = run_checkpoint(true);
    if (status.ok() && discard_thread_.joinable()) discard_freed();
  }
  stop(ErrorCode::shut_down);
  join_threads();
  return status;
}

void StoreImpl::stop(ErrorCode why) {
  health_.report(HealthEvent::stop, why);
  stop_discards();
  MutexLock lock(journal_mutex_);
  stopping_ = true;
  journal_changed_.notify_all();
  background_work_.notify_all();
}

void StoreImpl::fail(const Error& error) {
  if (may_commit()) {
    const std::string why = error.detail().empty() ? "" : ": " + error.detail();
    health_.report(HealthEvent::commit_failed, Error(error.code(), device_.name() + why));
  }
  MutexLock lock(journal_mutex_);
  journal_changed_.notify_all();
  background_work_.notify_all();
}

std::optional<Error> StoreImpl::failure() const {
  if (may_commit()) return std::nullopt;
  const auto cause = health_.cause();
  return cause ? cause->error : Error(ErrorCode::shut_down);
}

Status StoreImpl::check_writable() const {
  if (options_.read_only) return ErrorCode::read_only;
  return health_.check(Activity::commit);
}

// --- reading

Result<std::optional<std::vector<std::byte>>> StoreImpl::get(const Key& key) {
  NodeRef failed;
  while (true) {
    NodeRef missing;
    std::optional<std::vector<std::byte>> value;
    {
      SharedLock lock(tree_mutex_);
      missing = tree_.get(key, value);
    }
    if (!missing) return value;
    FS_TRY(fault_in_for_read(missing, failed));
  }
}

Result<std::vector<Item>> StoreImpl::scan(const Key& first, const Key& last, size_t limit) {
  std::vector<Item> items;
  NodeRef failed;
  std::optional<Key> next = first;
  while (next && items.size() < limit) {
    NodeRef missing;
    {
      SharedLock lock(tree_mutex_);
      Key from = *next;
      missing =
          tree_.scan_leaf(from, last, next, [&](const Key& key, std::span<const std::byte> value) {
            if (items.size() == limit) return false;
            items.push_back({key, {value.begin(), value.end()}});
            return true;
          });
    }
    if (missing) FS_TRY(fault_in_for_read(missing, failed));
  }
  return items;
}

Result<std::optional<Item>> StoreImpl::floor(const Key& at, const Key& first) {
  NodeRef failed;
  while (true) {
    NodeRef missing;
    bool found = false;
    Item item;
    {
      SharedLock lock(tree_mutex_);
      missing = tree_.floor(at, first, found, item.key, item.value);
    }
    if (!missing) return found ? std::optional<Item>(std::move(item)) : std::nullopt;
    FS_TRY(fault_in_for_read(missing, failed));
  }
}

StoreGauges StoreImpl::gauges() {
  StoreGauges gauges{};
  {
    SharedLock lock(tree_mutex_);
    gauges.nodes_loaded = tree_.loaded_leaves();
    gauges.nodes_dirty = tree_.dirty_nodes();
    gauges.node_blocks_replaced = tree_.replaced().size();
  }
  {
    MutexLock lock(space_mutex_);
    gauges.blocks_reserved = reserved_blocks_;
    gauges.blocks_pending_free = space_.pending_free();
    gauges.blocks_to_discard = freed_blocks_ + discarding_blocks_;
  }
  MutexLock lock(journal_mutex_);
  gauges.journal_used_blocks = ring_->used_blocks();
  return gauges;
}

// --- for fsck and dump

void StoreImpl::visit_nodes(const std::function<void(const NodeView&, const Status&)>& visit) {
  struct Entry {
    NodeRef node;
    Key low;
  };
  std::vector<Entry> stack;
  {
    SharedLock lock(tree_mutex_);
    stack.push_back({tree_.root(), Key::minimum()});
  }
  while (!stack.empty()) {
    Entry entry = std::move(stack.back());
    stack.pop_back();
    Status status = fault_in(entry.node);
    NodeView view{{}, entry.node->level, 0, entry.low};
    {
      SharedLock lock(tree_mutex_);
      if (entry.node->state == NodeState::clean) view.address = entry.node->address();
      if (status.ok() && entry.node->loaded()) {
        view.count = entry.node->level == 0 ? entry.node->leaf().count()
                                            : static_cast<uint32_t>(entry.node->children.size());
        for (size_t i = entry.node->children.size(); i-- > 0;) {
          stack.push_back({entry.node->children[i].node, entry.node->children[i].key});
        }
      }
    }
    visit(view, status);
  }
}

Result<bool> StoreImpl::is_allocated(Lba lba) {
  FS_TRY(load_group(SpaceMap::group_of(lba)));
  MutexLock lock(space_mutex_);
  return space_.is_committed(lba);
}

Result<std::vector<std::byte>> StoreImpl::group_bitmap(uint32_t group) {
  FS_TRY(load_group(group));
  MutexLock lock(space_mutex_);
  std::vector<std::byte> bytes(kBlockSize);
  const BitmapBlock& bits = space_.committed(group);
  for (size_t w = 0; w < bits.size(); ++w) reinterpret_cast<le64*>(bytes.data())[w] = bits[w];
  return bytes;
}

}  // namespace stablefs
