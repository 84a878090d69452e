# Where Eigen or Catch2 is missing, the message says what to do. Where it may be fetched, it is:
# here from a folder, so that nothing is downloaded.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

# Configuring must fail, with the Debian package and the option in its message.
function(expect_missing debian)
  execute_process(COMMAND ${configure} -B ${here}/missing ${ARGN} RESULT_VARIABLE result
                  OUTPUT_QUIET ERROR_VARIABLE errors)
  file(REMOVE_RECURSE ${here}/missing)
  string(REGEX REPLACE "[ \n]+" " " errors "${errors}")
  if(result STREQUAL 0 OR NOT errors MATCHES "was not found. Install it \\(Debian: ${debian}\\).*\
-D DIFFUSION_FETCH_DEPENDENCIES=ON")
    message(FATAL_ERROR "without ${debian}, configuring ended with ${result}:\n${errors}")
  endif()
endfunction()

make_project(add_subdirectory)
set(no_eigen -D CMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)
expect_missing(libeigen3-dev -S ${here}/project ${no_eigen})
expect_missing(catch2 -S ${SOURCE} ${EIGEN_DIR} -D CMAKE_DISABLE_FIND_PACKAGE_Catch2=ON
               -D DIFFUSION_BUILD_TESTS=ON -D DIFFUSION_BUILD_EXAMPLES=OFF)

build_project(${no_eigen} -D DIFFUSION_FETCH_DEPENDENCIES=ON
              -D FETCHCONTENT_SOURCE_DIR_EIGEN3=${EIGEN_INCLUDE})
expect_plain_compile_commands()
run_program(${here}/bin/my_program)
