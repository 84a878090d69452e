# shellcheck shell=sh
# Shared by tests/run.sh and examples/run.sh (POSIX sh, sourced): installing what is missing on a
# Debian machine, and how many compilers fit into its memory.

# True if the file is below one of the folders where compilers look for headers.
has_header() {
  for folder in /usr/include /usr/local/include /usr/include/eigen3 /usr/local/include/eigen3; do
    [ -e "$folder/$1" ] && return 0
  done
  return 1
}

has_sanitizers() {
  for file in "$(clang++ -print-resource-dir 2>/dev/null)"/lib/*/libclang_rt.asan*; do
    [ -e "$file" ] && return 0
  done
  return 1
}

has_libcxx() {
  echo '#include <string>
int main() { return std::string().size(); }' | clang++ -stdlib=libc++ -x c++ - -o /dev/null 2>/dev/null
}

# True if what the Debian package brings is there, wherever it came from.
has_package() {
  case $1 in
    cmake) command -v cmake ;;
    ninja-build) command -v ninja ;;
    g++) command -v g++ ;;
    clang) command -v clang++ ;;
    libclang-rt-dev) has_sanitizers ;;
    libeigen3-dev) has_header unsupported/Eigen/CXX11/Tensor ;;
    nlohmann-json3-dev) has_header nlohmann/json.hpp ;;
    libcli11-dev) has_header CLI/CLI.hpp ;;
    libstb-dev) has_header stb/stb_image_write.h ;;
    libgif-dev) has_header gif_lib.h ;;
    libc++-dev | libc++abi-dev) has_libcxx ;;
    g++-mingw-w64-x86-64-posix) command -v x86_64-w64-mingw32-g++-posix ;;
    g++-aarch64-linux-gnu) command -v aarch64-linux-gnu-g++ ;;
    qemu-user) command -v qemu-aarch64 ;;
    libtorch-dev) has_header torch/script.h ;;
    doxygen) command -v doxygen ;;
    graphviz) command -v dot ;;
    pkg-config) command -v pkg-config ;;
    dpkg-dev) command -v dpkg-shlibdeps ;;
    catch2) has_header catch2/catch.hpp || has_header catch2/catch_all.hpp ;;
    *) false ;;
  esac >/dev/null 2>&1
}

# Runs apt-get, as root or with sudo.
apt() {
  if [ "$(id -u)" -eq 0 ]; then
    env DEBIAN_FRONTEND=noninteractive apt-get "$@"
  else
    sudo env DEBIAN_FRONTEND=noninteractive apt-get "$@"
  fi
}

# Installs those of the named packages that are missing. Does not touch apt when none is.
install_packages() {
  missing=""
  for package in "$@"; do
    has_package "$package" || missing="$missing $package"
  done
  [ -z "$missing" ] && return 0

  if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing:$missing (Debian's names), and there is no apt-get: please install them." >&2
    return 1
  fi
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
    echo "Missing:$missing. Please run as root: apt-get install$missing" >&2
    return 1
  fi
  echo "Installing$missing"
  # Package lists may be absent or old; fetch them only if it does not work without.
  # shellcheck disable=SC2086 # a list of words
  apt install -y -qq --no-install-recommends $missing >/dev/null 2>&1 ||
    { apt update -qq && apt install -y -qq --no-install-recommends $missing >/dev/null; } ||
    { echo "Could not install:$missing" >&2; return 1; }
}

# As many compilers as there are cores, each with 1.5 GB of memory to itself.
job_count() {
  cores=$(nproc 2>/dev/null || echo 1)
  memory_kb=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo 2>/dev/null)
  group_bytes=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
  case $group_bytes in
    '' | *[!0-9]*) ;;
    *) [ $((group_bytes / 1024)) -lt "${memory_kb:-0}" ] && memory_kb=$((group_bytes / 1024)) ;;
  esac
  fit=$((${memory_kb:-1572864} / 1572864))
  [ "$fit" -lt 1 ] && fit=1
  if [ "$fit" -lt "$cores" ]; then echo "$fit"; else echo "$cores"; fi
}
