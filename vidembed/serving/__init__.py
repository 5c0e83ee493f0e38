"""An embedding in use: quantised, indexed, searched. Arrays alone; it knows no run."""
