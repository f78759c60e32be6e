// A folder whose files can only have been written by this user: what is run as machine code lies in one.
//
// It belongs to the user and neither group nor others may write to it; the folders above it, and links on the way,
// belong to the user or to root, and others may write to them only where the sticky bit keeps names from being replaced
// (as in /tmp). The path is walked from folder to open folder, so that what was checked is what is used. Who can write
// as this user, or as root, can plant what they like: that is their right.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace weft {

class PrivateFolder {
 public:
  /// `make`: makes what is missing of it, for the user alone.
  PrivateFolder(const std::filesystem::path &path, bool make);
  /// No folder, for a reason.
  explicit PrivateFolder(std::string refusal) : why(std::move(refusal)) {}
  PrivateFolder(PrivateFolder &&other) noexcept;
  PrivateFolder &operator=(PrivateFolder &&) = delete;
  ~PrivateFolder();

  bool usable() const { return folder >= 0; }
  /// Why it is not usable, and what would be right. Empty where it is missing and was not to be made.
  const std::string &refusal() const { return why; }

  /// The whole of a file. False where there is none, or where it is a link, no plain file, of another user, or one that
  /// others may write to: `refused` says so then.
  bool read(const std::string &name, std::string &text, std::string &refused) const;
  /// See replaceFile; for the user alone.
  std::string replace(const std::string &name, std::string_view text) const;
  /// False where it fails, or `to` exists.
  bool rename(const std::string &name, const std::string &to) const;
  /// A descriptor of a file for locks, made where it is missing; -1 where it cannot be.
  int openLock(const std::string &name) const;

 private:
  std::string why;
  int folder = -1;
};

}  // namespace weft
