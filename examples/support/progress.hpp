#ifndef DIFFUSION_EXAMPLES_PROGRESS_HPP
#define DIFFUSION_EXAMPLES_PROGRESS_HPP

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>

namespace examples {

/// "7 s", "3 min 05 s", "2 h 10 min".
inline std::string duration_text(double seconds) {
  const auto two_digits = [](long value) {
    return (value < 10 ? "0" : "") + std::to_string(value);
  };
  const long total = std::lround(std::clamp(seconds, 0.0, 1e7));
  if (total < 60) return std::to_string(total) + " s";
  if (total < 3600) return std::to_string(total / 60) + " min " + two_digits(total % 60) + " s";
  return std::to_string(total / 3600) + " h " + two_digits(total / 60 % 60) + " min";
}

/// "label  12/50 (24 %), 7 s left"; at the end "label  50/50 (100 %), took 9 s".
inline std::string progress_text(const std::string& label, long done, long total,
                                 double elapsed_seconds) {
  const long percent = total > 0 ? 100 * done / total : 100;
  std::string text = label + "  " + std::to_string(done) + "/" + std::to_string(total) + " (" +
                     std::to_string(percent) + " %)";
  if (done >= total) return text + ", took " + duration_text(elapsed_seconds);
  if (done == 0) return text;
  const double left =
      elapsed_seconds * static_cast<double>(total - done) / static_cast<double>(done);
  return text + ", " + duration_text(left) + " left";
}

/// "[########                ]" of `width` cells.
inline std::string progress_bar(long done, long total, int width = 30) {
  const long filled = total > 0 ? std::clamp(width * done / total, 0L, long{width}) : long{width};
  return "[" + std::string(static_cast<std::size_t>(filled), '#') +
         std::string(static_cast<std::size_t>(width - filled), ' ') + "]";
}

/// Shows on standard error how far a job is and how long it will still take: a bar that is redrawn
/// on a terminal, otherwise a plain line whenever another tenth is done.
class Progress {
 public:
  /// `total` is the number of steps, at least 1.
  Progress(std::string label, long total)
      : Progress(std::move(label), total, stderr, isatty(STDERR_FILENO) != 0) {}

  /// The same on any open file; `terminal` says which of the two forms is shown.
  Progress(std::string label, long total, std::FILE* file, bool terminal)
      : label_(std::move(label)), total_(std::max(1L, total)), file_(file), terminal_(terminal) {
    if (terminal_) show();
  }

  ~Progress() {
    if (terminal_ && done_ < total_) std::fputc('\n', file_);  // keep what follows off the bar
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Tells that `done` of the steps are finished. Cheap: it shows only what has changed visibly.
  void update(long done) {
    const long before = done_;
    done_ = std::clamp(done, 0L, total_);
    if (done_ == before) return;
    const bool finished = done_ == total_;
    const auto now = Clock::now();
    if (terminal_) {
      if (finished || now - shown_ >= std::chrono::milliseconds(100)) show();
    } else if (10 * done_ / total_ != 10 * before / total_) {
      show();
    }
  }

  /// One more step is finished.
  void advance() { update(done_ + 1); }

 private:
  using Clock = std::chrono::steady_clock;

  void show() {
    shown_ = Clock::now();
    const double elapsed = std::chrono::duration<double>(shown_ - start_).count();
    const std::string text = progress_text(label_, done_, total_, elapsed);
    if (terminal_) {
      // Back to the line's start, write, erase what an earlier, longer text left.
      std::fprintf(file_, "\r%s %s\x1b[K%s", progress_bar(done_, total_).c_str(), text.c_str(),
                   done_ == total_ ? "\n" : "");
    } else {
      std::fprintf(file_, "%s\n", text.c_str());
    }
    std::fflush(file_);
  }

  std::string label_;
  long total_;
  std::FILE* file_;
  bool terminal_;
  long done_ = 0;
  Clock::time_point start_ = Clock::now();
  Clock::time_point shown_;
};

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_PROGRESS_HPP
