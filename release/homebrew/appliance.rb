# Made by `python -m release`: do not edit. Builds llama.cpp with Metal for the machine that it is installed on.
class Appliance < Formula
  include Language::Python::Virtualenv

  desc "Runs a language model on the machine you already own"
  homepage "$url"
  url "$url/$archive"
  sha256 "$sha256"
  license "MIT"

  depends_on "cmake" => :build
  depends_on "ninja" => :build
  depends_on "rust" => :build
  depends_on "python@$python"

$resources
  def install
    virtualenv_install_with_resources
  end

  service do
    run [opt_bin/"appliance", "serve"]
    keep_alive true
    log_path var/"log/appliance.log"
    error_log_path var/"log/appliance.log"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/appliance --version")
  end
end
