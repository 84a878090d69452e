# `cpack -G DEB` makes libdiffusion-dev; a project is built against its contents.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

run(${CPACK} --config ${BUILD}/CPackConfig.cmake -G DEB -B ${here})
set(package ${here}/libdiffusion-dev_${VERSION}_all.deb)

set(wanted
  "Package: libdiffusion-dev" "Version: ${VERSION}" "Architecture: all" "Section: libdevel"
  "Depends: libeigen3-dev (>= 3.4)" "Suggests: nlohmann-json3-dev")
foreach(line IN LISTS wanted)
  string(REGEX REPLACE ": .*" "" field "${line}")
  run(${DPKG_DEB} --field ${package} ${field})
  string(STRIP "${output}" output)
  expect_equal("${field}" "${field}: ${output}" "${line}")
endforeach()
run(${DPKG_DEB} --field ${package} Description)
if(NOT output MATCHES "^[^\n]+\n [^\n]+\n")
  message(FATAL_ERROR "the description has no synopsis and text:\n${output}")
endif()

run(${DPKG_DEB} --extract ${package} ${here}/unpacked)
file(GLOB_RECURSE wanted RELATIVE ${SOURCE} ${SOURCE}/include/diffusion/*.hpp)
list(APPEND wanted
  share/cmake/diffusion/diffusionConfig.cmake
  share/cmake/diffusion/diffusionConfigVersion.cmake
  share/cmake/diffusion/diffusionTargets.cmake
  share/doc/libdiffusion-dev/CHANGELOG.md
  share/doc/libdiffusion-dev/copyright
  share/pkgconfig/diffusion.pc)
list(SORT wanted)
file(GLOB_RECURSE files RELATIVE ${here}/unpacked/usr ${here}/unpacked/*)
list(SORT files)
expect_equal("files of the package" "${files}" "${wanted}")

make_project(find_package)
build_project(-D CMAKE_PREFIX_PATH=${here}/unpacked/usr ${EIGEN_DIR})
run_program(${here}/bin/my_program)
