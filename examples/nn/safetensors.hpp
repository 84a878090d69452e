#ifndef DIFFUSION_EXAMPLES_NN_SAFETENSORS_HPP
#define DIFFUSION_EXAMPLES_NN_SAFETENSORS_HPP

#include <Eigen/Core>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nn {

static_assert(std::endian::native == std::endian::little, "safetensors files are little endian");

/// The element types that networks are saved in.
enum class Dtype { f16, bf16, f32, f64 };

/// One tensor of a file: its bytes, not copied and not necessarily aligned.
struct TensorView {
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

namespace detail {

[[noreturn]] inline void fail(const std::string& message) { throw std::runtime_error(message); }

/// Text of a file as an error message repeats it: on one line, not too long.
inline std::string printable(std::string_view text) {
  constexpr std::size_t longest = 200;
  std::string line(text.substr(0, longest));
  for (char& c : line)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  return text.size() > longest ? line + "..." : line;
}

inline std::string quoted(std::string_view text) { return "'" + printable(text) + "'"; }

/// A value of a JSON file as an error message shows it: on one line, ASCII, not too long.
inline std::string shown(const nlohmann::json& value) {
  constexpr std::size_t longest = 60;
  auto text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > longest) text = text.substr(0, longest) + "...";
  return text;
}

inline std::string list_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

/// Parses JSON and refuses a key that stands twice in one object: which of the two counts is not
/// defined, and files that hide a second value behind the first are made to mislead.
/// @throws std::runtime_error that begins with `what`, the name of the file
inline nlohmann::json parse_json(std::string_view text, const std::string& what) {
  using nlohmann::json;
  std::vector<std::set<std::string>> open_objects;
  constexpr int deepest = 64;
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > deepest)
      fail(what + ": JSON is nested deeper than " + std::to_string(deepest) + " levels");
    if (event == json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == json::parse_event_t::object_end) open_objects.pop_back();
    if (event == json::parse_event_t::key &&
        !open_objects.back().insert(parsed.get_ref<const std::string&>()).second)
      fail(what + ": the key " + shown(parsed) + " stands twice");
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& error) {
    fail(what + ": not valid JSON: " + printable(error.what()));
  }
}

inline std::vector<std::byte> read_file(const std::filesystem::path& path) {
  std::error_code no_throw;
  if (!std::filesystem::is_regular_file(path, no_throw))
    fail("cannot read '" + path.string() + "': there is no such file");
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0) fail("cannot open '" + path.string() + "'");
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  file.seekg(0);
  if (!bytes.empty()) file.read(reinterpret_cast<char*>(bytes.data()), size);
  if (!file) fail("cannot read the " + std::to_string(size) + " bytes of '" + path.string() + "'");
  return bytes;
}

inline std::optional<Dtype> dtype_named(std::string_view name) {
  if (name == "F16") return Dtype::f16;
  if (name == "BF16") return Dtype::bf16;
  if (name == "F32") return Dtype::f32;
  if (name == "F64") return Dtype::f64;
  return std::nullopt;
}

inline std::size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f16:
    case Dtype::bf16:
      return 2;
    case Dtype::f32:
      return 4;
    case Dtype::f64:
      return 8;
  }
  fail("unknown element type");
}

template <class Stored, class Scalar>
void convert(std::span<const std::byte> bytes, std::vector<Scalar>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(static_cast<void*>(&stored), bytes.data() + i * sizeof(Stored), sizeof(Stored));
    if constexpr (sizeof(Stored) == 2)
      values[i] = static_cast<Scalar>(static_cast<float>(stored));
    else
      values[i] = static_cast<Scalar>(stored);
  }
}

}  // namespace detail

/// The numbers of a tensor, in C order. Conversion from a narrower type is exact.
template <class Scalar>
std::vector<Scalar> values_of(const TensorView& tensor) {
  std::vector<Scalar> values(tensor.bytes.size() / detail::size_of(tensor.dtype));
  switch (tensor.dtype) {
    case Dtype::f16:
      detail::convert<Eigen::half>(tensor.bytes, values);
      break;
    case Dtype::bf16:
      detail::convert<Eigen::bfloat16>(tensor.bytes, values);
      break;
    case Dtype::f32:
      detail::convert<float>(tensor.bytes, values);
      break;
    case Dtype::f64:
      detail::convert<double>(tensor.bytes, values);
      break;
  }
  return values;
}

/// A file in the safetensors format: eight bytes with the length of a JSON header (little endian),
/// the header {name: {dtype, shape, data_offsets: [begin, end]}}, and the bytes of the tensors one
/// after another. Nothing in the header is believed: every length and offset is checked against the
/// file before it is used, and the tensors must cover the data without gap or overlap, as the
/// format demands.
class SafeTensors {
 public:
  /// @throws std::runtime_error that names the file and what is wrong in it
  static SafeTensors read(const std::filesystem::path& path) {
    return SafeTensors(detail::read_file(path), path.filename().string());
  }

  /// The same from memory. `what` is the name that error messages begin with.
  static SafeTensors parse(std::span<const std::byte> bytes, std::string what = "safetensors") {
    return SafeTensors({bytes.begin(), bytes.end()}, std::move(what));
  }

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

  /// The name of the file, for messages.
  const std::string& name() const { return name_; }

  /// The tensors are views of bytes that this object owns: it moves, and it does not copy.
  SafeTensors(SafeTensors&&) = default;
  SafeTensors& operator=(SafeTensors&&) = default;

 private:
  static constexpr std::size_t length_bytes = 8;
  static constexpr std::uint64_t longest_header = 100'000'000;  // the format's own limit

  SafeTensors(std::vector<std::byte> bytes, std::string name)
      : bytes_(std::move(bytes)), name_(std::move(name)) {
    const std::string_view header = header_text();
    const auto data = std::span<const std::byte>(bytes_).subspan(length_bytes + header.size());
    const auto json = detail::parse_json(header, name_ + ": header");
    if (!json.is_object()) fail("the header is " + detail::shown(json) + ", must be a JSON object");
    for (const auto& [key, entry] : json.items())
      if (key != "__metadata__") tensors_.emplace(key, tensor(key, entry, data));
    check_cover(data);
  }

  [[noreturn]] void fail(const std::string& message) const { detail::fail(name_ + ": " + message); }

  std::string_view header_text() const {
    if (bytes_.size() < length_bytes)
      fail("the file has " + std::to_string(bytes_.size()) + " bytes, needs at least 8");
    std::uint64_t length = 0;
    std::memcpy(&length, bytes_.data(), length_bytes);
    const std::uint64_t room = bytes_.size() - length_bytes;
    if (length > longest_header)
      fail("header length " + std::to_string(length) + " is above the limit " +
           std::to_string(longest_header));
    if (length > room)
      fail("header length " + std::to_string(length) + " is above the " + std::to_string(room) +
           " bytes that the file has after it");
    return {reinterpret_cast<const char*>(bytes_.data()) + length_bytes,
            static_cast<std::size_t>(length)};
  }

  TensorView tensor(const std::string& key, const nlohmann::json& entry,
                    std::span<const std::byte> data) const {
    const std::string who = "tensor " + detail::quoted(key);
    if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
        !entry.contains("data_offsets"))
      fail(who + ": needs dtype, shape and data_offsets, has " + detail::shown(entry));

    const auto dtype = entry["dtype"].is_string()
                           ? detail::dtype_named(entry["dtype"].get_ref<const std::string&>())
                           : std::nullopt;
    if (!dtype)
      fail(who + ": dtype is " + detail::shown(entry["dtype"]) +
           ", must be one of F16, BF16, F32, F64");

    const auto shape = naturals(entry["shape"], who + ": shape");
    const auto offsets = naturals(entry["data_offsets"], who + ": data_offsets");
    if (offsets.size() != 2)
      fail(who + ": data_offsets is " + detail::shown(entry["data_offsets"]) +
           ", must be [begin, end]");
    if (offsets[0] > offsets[1])
      fail(who + ": data_offsets " + detail::list_text(offsets) + " decrease");
    if (static_cast<std::uint64_t>(offsets[1]) > data.size())
      fail(who + ": data_offsets " + detail::list_text(offsets) + " end after the " +
           std::to_string(data.size()) + " bytes of data in the file");
    const std::int64_t length = offsets[1] - offsets[0];
    if (byte_count(shape, *dtype, who) != length)
      fail(who + ": shape " + detail::list_text(shape) + " of " + detail::shown(entry["dtype"]) +
           " needs " + std::to_string(byte_count(shape, *dtype, who)) + " bytes, data_offsets " +
           detail::list_text(offsets) + " give " + std::to_string(length));
    return {*dtype, shape,
            data.subspan(static_cast<std::size_t>(offsets[0]), static_cast<std::size_t>(length))};
  }

  std::vector<std::int64_t> naturals(const nlohmann::json& list, const std::string& who) const {
    constexpr auto largest = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    constexpr std::size_t longest = 32;
    std::vector<std::int64_t> numbers;
    bool good = list.is_array() && list.size() <= longest;
    for (std::size_t i = 0; good && i < list.size(); ++i) {
      good = list[i].is_number_unsigned() && list[i].get<std::uint64_t>() <= largest;
      if (good) numbers.push_back(list[i].get<std::int64_t>());
    }
    if (!good)
      fail(who + " is " + detail::shown(list) + ", must be a list of at most " +
           std::to_string(longest) + " integers, each from 0 to " + std::to_string(largest));
    return numbers;
  }

  std::int64_t byte_count(const std::vector<std::int64_t>& shape, Dtype dtype,
                          const std::string& who) const {
    auto count = static_cast<std::int64_t>(detail::size_of(dtype));
    if (std::count(shape.begin(), shape.end(), 0) > 0) return 0;
    for (const std::int64_t extent : shape) {
      if (extent > std::numeric_limits<std::int64_t>::max() / count)
        fail(who + ": the size of shape " + detail::list_text(shape) + " overflows 64 bits");
      count *= extent;
    }
    return count;
  }

  void check_cover(std::span<const std::byte> data) const {
    std::vector<std::pair<std::span<const std::byte>, std::string>> pieces;
    for (const auto& [key, view] : tensors_) pieces.emplace_back(view.bytes, key);
    std::sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) {
      return std::pair(a.first.data(), a.first.size()) < std::pair(b.first.data(), b.first.size());
    });
    std::size_t covered = 0;
    for (const auto& [piece, key] : pieces) {
      const auto begin = static_cast<std::size_t>(piece.data() - data.data());
      if (begin < covered)
        fail("tensor " + detail::quoted(key) + " overlaps another: it begins at " +
             std::to_string(begin) + ", the data before it ends at " + std::to_string(covered));
      if (begin > covered)
        fail("no tensor covers the data from " + std::to_string(covered) + " to " +
             std::to_string(begin));
      covered += piece.size();
    }
    if (covered != data.size())
      fail("the tensors cover " + std::to_string(covered) + " bytes, the file has " +
           std::to_string(data.size()) + " bytes of data");
  }

  std::vector<std::byte> bytes_;
  std::string name_;
  std::map<std::string, TensorView> tensors_;
};

/// The parameters of a network, taken from a file one by one by name and shape; at the end every
/// tensor of the file must have been taken.
template <class Scalar>
class Parameters {
 public:
  explicit Parameters(const SafeTensors& file) : file_(file) {}

  bool has(const std::string& name) const { return file_.tensors().contains(name); }

  std::vector<Scalar> take(const std::string& name, const std::vector<std::int64_t>& shape) {
    const auto found = file_.tensors().find(name);
    if (found == file_.tensors().end())
      detail::fail(file_.name() + ": tensor " + detail::quoted(name) + " is missing, the config " +
                   "asks for one of shape " + detail::list_text(shape));
    if (found->second.shape != shape)
      detail::fail(file_.name() + ": tensor " + detail::quoted(name) + " has shape " +
                   detail::list_text(found->second.shape) + ", the config asks for " +
                   detail::list_text(shape));
    taken_.insert(name);
    return values_of<Scalar>(found->second);
  }

  void check_all_taken() const {
    for (const auto& [name, view] : file_.tensors())
      if (!taken_.contains(name))
        detail::fail(file_.name() + ": tensor " + detail::quoted(name) +
                     " has no place in the network of the config (" +
                     std::to_string(file_.tensors().size() - taken_.size()) + " such in the file)");
  }

 private:
  const SafeTensors& file_;
  std::set<std::string> taken_;
};

}  // namespace nn

#endif
